"""Components of your own: each module declares one, and a test runs it."""
