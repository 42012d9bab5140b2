"""Networks, their checkpoints and their exported files."""
