"""Offline checks of cluster files for ``ray up``."""
