"""Train one network, and measure it against its unregularized baselines."""
