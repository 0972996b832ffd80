"""Persistent frame indexes, one per video, behind one small interface (see :mod:`indexes.stores.interface`)."""
