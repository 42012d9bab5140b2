"""Run the trials of a study on Ray and record their results."""
