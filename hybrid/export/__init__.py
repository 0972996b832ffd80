"""Answers in the forms that people and other programs use: one form a file, listed in :mod:`hybrid.export.registry`."""
