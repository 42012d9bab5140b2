"""Descriptions of charts, and the backends that draw them."""
