"""Servers to try Holdfast on; none of them knows of it."""
