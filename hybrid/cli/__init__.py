"""The command line: ``hybrid index``, ``ask`` ...; one verb a file, listed in :mod:`hybrid.cli.registry`.

Nothing heavy is imported until a verb runs, so that ``hybrid --help`` is quick.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    from hybrid.cli.app import main as run

    run()
