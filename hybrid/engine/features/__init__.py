"""Features of frames: made by the fine stage's vision encoder, stored in the archive."""
