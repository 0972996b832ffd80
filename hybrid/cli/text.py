"""How numbers are written for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid.values import Span

__all__ = ["best_part", "clock", "plain", "printable", "size"]


def clock(seconds: float) -> str:
    """A time as people read it.

    >>> clock(5.973), clock(59.999), clock(3723.25)
    ('0:05.97', '1:00.00', '1:02:03.25')
    """
    minutes, rest = divmod(round(seconds * 100), 6000)
    hours, minutes = divmod(minutes, 60)
    short = f"{rest // 100:02d}.{rest % 100:02d}"
    return f"{hours}:{minutes:02d}:{short}" if hours else f"{minutes}:{short}"


def best_part(span: Span) -> str:
    """The stretch of a span that has its best score, where that is not all of it; else nothing."""
    return "" if span.best is None else f"{clock(span.best[0])} to {clock(span.best[1])}"


def plain(text: str) -> str:
    """Text that a terminal shows as it is: free of markup, and of characters that it would obey."""
    from rich.markup import escape

    return escape(printable(text))


def printable(text: str) -> str:
    """Text without characters that a terminal would obey."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def size(count: int) -> str:
    """A number of bytes as people read it.

    >>> size(999), size(13_434_880), size(236_000_000_000)
    ('999 B', '13.4 MB', '236.0 GB')
    """
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bytes_each:
            return f"{count / bytes_each:.1f} {unit}"
    return f"{count} B"
