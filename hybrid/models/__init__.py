"""The small models of the ``tiny`` preset, and where they lie."""
