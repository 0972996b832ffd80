"""Counts as people read them."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number and what there is so many of; ``many`` where that is not ``one`` with an s.

    >>> counted(1, "video"), counted(0, "video"), counted(2, "index is", "indexes are")
    ('1 video', '0 videos', '2 indexes are')
    """
    return f"{count} {one if count == 1 else f'{one}s' if many is None else many}"
