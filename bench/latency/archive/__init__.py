"""Archives of many made-up videos: opening, searching, adding, and what they take on disk."""
