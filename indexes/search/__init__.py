"""One question to many videos: each one scanned, the best looked at closely, and put together."""
