"""Open videos, and decode them ahead of who takes their frames."""
