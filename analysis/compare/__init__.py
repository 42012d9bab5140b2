"""Compare the fronts of several studies."""
