"""From a question to the frames of a video that the fine stage reads."""
