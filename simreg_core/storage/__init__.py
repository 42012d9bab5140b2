"""Local and remote files: atomic writes, locks, and a cache of decoded arrays."""
