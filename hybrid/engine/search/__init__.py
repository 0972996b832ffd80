"""Search a whole archive."""
