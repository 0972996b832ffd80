"""Scores of frames for questions, for the selectors: one scorer per file."""
