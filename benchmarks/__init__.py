"""One script per claim; docs/benchmarks.md has the results with their conditions."""
