"""Models that answer questions from pictures, and what they are asked."""
