"""The fine stage: a model reads a window of frames and scores them from 1 to 5."""
