"""One archive on disk: what reads it, what writes it, and which video is which."""
