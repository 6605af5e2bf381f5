"""Domain 1: who is connected, what was said to them, what they missed."""
