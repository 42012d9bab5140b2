"""Predictive models of neural recordings, whose similarities can be the targets."""
