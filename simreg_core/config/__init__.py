"""The configuration of one trial: its classes, defaults, files and error messages."""
