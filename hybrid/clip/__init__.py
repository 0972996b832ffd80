"""From frames and questions to unit vectors, with open_clip."""
