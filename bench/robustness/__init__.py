"""What the engine does with files that are not what they should be."""
