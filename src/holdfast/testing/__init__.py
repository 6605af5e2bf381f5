"""For users and for authors of backends. Needs pytest; nothing in Holdfast imports it."""
