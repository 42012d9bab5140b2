"""White-box attacks on one network, and signs of masked gradients."""
