"""One script per claim; docs/benchmarks.md lists the measurements and their conditions."""
