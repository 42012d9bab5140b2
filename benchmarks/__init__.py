"""One script per claim; figures with their conditions stand in RESULTS.md."""
