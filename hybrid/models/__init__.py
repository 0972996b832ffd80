"""Small checkpoints: made here for tests, demonstrations and the ``tiny`` preset."""
