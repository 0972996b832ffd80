"""An archive in an object store."""
