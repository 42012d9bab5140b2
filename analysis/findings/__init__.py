"""What a study shows: fronts, their uncertainty, importance and growth."""
