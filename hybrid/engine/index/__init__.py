"""Index one video, or bring its index up to date."""
