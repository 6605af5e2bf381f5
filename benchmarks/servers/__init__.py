"""The same echo tool behind each framework's own transport; `holdfast serve` serves the same objects."""
