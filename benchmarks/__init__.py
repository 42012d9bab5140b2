"""One script per claim; RESULTS.md lists the measurements and their conditions."""
