"""What operators use. Everything else runs without it."""
