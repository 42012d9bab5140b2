"""Serve the reports of all studies in a folder."""
