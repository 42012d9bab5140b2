"""Attacks and corruptions, accuracy under them, and the tradeoff score."""
