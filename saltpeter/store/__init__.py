"""What survives: runs, outcomes and output in SQLite, and text logs. See `saltpeter.engine.storage`."""
