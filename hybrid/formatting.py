"""Numbers in messages."""

from __future__ import annotations

__all__ = ["plural"]


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun; ``many`` is the noun's plural where that is not ``one`` with an s.

    >>> plural(1, "video"), plural(0, "video"), plural(2, "index is", "indexes are")
    ('1 video', '0 videos', '2 indexes are')
    """
    return f"{count} {one if count == 1 else f'{one}s' if many is None else many}"
