"""Checkpoints with random weights, for tests and trials: real architectures, made in a moment, no download."""
