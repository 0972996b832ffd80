"""Rules that choose K frames from scores; one rule a file."""
