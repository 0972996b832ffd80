"""What the command line prints: text and tables for people, JSON for programs, progress for both."""
