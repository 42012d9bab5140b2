"""Datasets, their fixed splits, and the images that the regularizer compares."""
