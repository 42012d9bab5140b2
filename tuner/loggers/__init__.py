"""Logging of a search to TensorBoard, MLflow and Weights & Biases, beside its own tables."""
