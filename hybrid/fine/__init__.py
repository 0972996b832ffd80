"""The fine stage: a generative frame sampler reads a window of frames and scores them 1 to 5."""
