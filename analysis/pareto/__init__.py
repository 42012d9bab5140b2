"""The Pareto front of one study as picture, table and text."""
