"""The similarity regularizer: similarities, targets, image pairs and the loss."""
