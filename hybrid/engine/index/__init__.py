"""Index videos: one, or a folder of any size by several processes."""
