"""The bundled models of the ``tiny`` preset, and their paths."""
