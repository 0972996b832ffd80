"""How everything is written for people: the one place through which the command line prints text.

Names of files, questions, replies and texts of errors come from elsewhere. A terminal obeys some characters (escape
sequences that move the cursor or set the title, overrides of the direction of writing), and rich obeys markup. So
every text passes :func:`printable`: by :func:`echo`, in what :func:`terminal` prints, and in :func:`styled`. JSON is
printed by :func:`print_json`, exact and in ASCII.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from hybrid.output import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from hybrid.answers import Span

__all__ = [
    "best_part",
    "clock",
    "echo",
    "print_json",
    "print_json_line",
    "printable",
    "report",
    "size",
    "styled",
    "terminal",
]


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


def echo(*lines: str, err: bool = False) -> None:
    """Print lines on standard output, or standard error. A line feed inside a line is shown as an escape."""
    stream = sys.stderr if err else sys.stdout
    print(*map(printable, lines), sep="\n", file=stream, flush=True)


def print_json(document: Any, *, indent: int | None = None, err: bool = False) -> None:
    """A JSON document in ASCII on standard output, or standard error, at once."""
    # DEL is the one character that a terminal may obey and JSON need not escape.
    text = json.dumps(document, indent=indent).replace("\x7f", "\\u007f")
    print(text, file=sys.stderr if err else sys.stdout, flush=True)


def print_json_line(**fields: Any) -> None:
    """One JSON object on a line of its own, at once."""
    print_json(fields)


def report(text: str, *, as_json: bool, err: bool = False, **fields: Any) -> None:
    """One fact: a JSON line on standard output for programs, or a text for people, on standard error if ``err``."""
    if as_json:
        print_json_line(**fields)
    else:
        echo(text, err=err)


def terminal(*, stderr: bool = False) -> Console:
    """A console of rich that takes texts, and cells of tables, as they are: :func:`printable` and without markup."""
    from rich.console import Console

    class _Terminal(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    return _Terminal(stderr=stderr, markup=False, highlight=False, emoji=False)


def styled(*parts: str | tuple[str, str]) -> Text:
    """A line of several parts, each a text or a text with its style, for a console of rich."""
    from rich.text import Text

    texts = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((printable(text), style) for text, style in texts))


def size(count: int) -> str:
    """A number of bytes as people read it.

    >>> size(999), size(13_434_880), size(236_000_000_000)
    ('999 B', '13.4 MB', '236.0 GB')
    """
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bytes_each:
            return f"{count / bytes_each:.1f} {unit}"
    return f"{count} B"
