"""The result tables: their schema, the one reader and writer, and the state of a study."""
