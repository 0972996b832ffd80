"""Writing a text file at once: what reads it while it is written sees the old one, or none."""

from __future__ import annotations

from pathlib import Path

from hybrid.errors import SaveError
from hybrid.storage.atomic import write_atomically

__all__ = ["write_text"]


def write_text(path: Path, text: str) -> None:
    """Write a file; folders above it are made.

    Raises:
        SaveError: it cannot be written.
    """
    try:
        write_atomically(path, text.encode(), durable=False)
    except OSError as exc:
        raise SaveError(f"{path} cannot be written: {exc.strerror or exc}") from exc
