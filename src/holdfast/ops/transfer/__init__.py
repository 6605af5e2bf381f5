"""Sessions on their way from one store to another: into a file, and out of it. Decision 0020."""
