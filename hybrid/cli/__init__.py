"""The command line: ``hybrid index``, ``ask``, ``list``, ``doctor``; one verb a file.

Nothing heavy is imported until a verb runs, so that ``hybrid --help`` is quick.
"""

from __future__ import annotations

from hybrid.cli.app import main

__all__ = ["main"]
