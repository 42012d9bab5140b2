"""Export the network of a trial with its configuration and model card."""
