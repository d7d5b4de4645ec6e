"""`python -m saltpeter`, where the command itself is not on the path."""

from saltpeter.cli import main

if __name__ == "__main__":
    main(prog_name="saltpeter")
