"""Pareto fronts, hypervolumes and Gaussian processes on plain arrays."""
