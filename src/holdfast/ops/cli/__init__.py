"""The command `holdfast`. Nothing here is imported by anything else, and `--help` needs no extra."""
