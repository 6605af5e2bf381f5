"""The frameworks: how Holdfast plugs into them."""
