"""Index many videos: a folder of any size, by several processes."""
