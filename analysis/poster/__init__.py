"""The panels of the poster, drawn from the searches of search_spaces/poster."""
