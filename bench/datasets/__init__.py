"""Questions about long videos, read from the annotation files as their authors publish them; one data set a file.

Nothing is downloaded. A loader is given the annotation file, or a folder that holds it, and gives
:class:`~bench.datasets.question.Question`; where the file is missing or of another form, the error
says what to put where.
"""
