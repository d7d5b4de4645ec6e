"""The program that runs one command on one machine and reports it to the saltpeter daemon."""

__version__ = "1.0.0"
