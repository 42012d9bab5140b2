"""Read result tables and describe what was varied."""
