"""Speed is measured, not asserted: `make bench` compares with named peers in the same run."""
