"""How a command reaches machines: through Salt, or as processes of this host. See `saltpeter.engine.launcher`."""
