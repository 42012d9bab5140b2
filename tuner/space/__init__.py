"""Space files: search distributions, grids and the settings of a search."""
