"""Train chosen configurations again with fresh seeds and summarize them."""
