"""Work on an archive as a whole: statistics, verification, packing, the approximate index."""
