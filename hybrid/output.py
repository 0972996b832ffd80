"""What a terminal may be shown: foreign text without the characters that it would obey."""

from __future__ import annotations

import logging
import sys
import traceback
import unicodedata
import warnings
from types import TracebackType
from typing import Any

__all__ = ["guard_output", "printable"]


def printable(text: str) -> str:
    """Text with an escape in place of each character that a terminal would obey, or that cannot be encoded.

    These are control characters (line feeds too), marks of direction, characters without a width, and the lone
    surrogates of names that are not text.

    >>> print(printable("a\\x1b[2J\\n\\u202eb\\udcff"))
    a\\x1b[2J\\n\\u202eb\\udcff
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_harmless(letter) else repr(letter)[1:-1] for letter in text)


def guard_output() -> None:
    """Have what Python and libraries print of themselves pass :func:`printable` too: warnings, logs and tracebacks."""
    for stream in (sys.stdout, sys.stderr):
        # Where the terminal's encoding lacks a character, an escape of it is better than an error.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    logging.setLogRecordFactory(_Record)
    warnings.showwarning = _show_warning
    sys.excepthook = _show_exception


def _is_harmless(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


class _Record(logging.LogRecord):
    """A record that any handler of any library may write."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = "\n".join(_traceback(*self.exc_info))

    def getMessage(self) -> str:
        return printable(super().getMessage())


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(printable(f"{category.__name__}: {message}"), file=sys.stderr, flush=True)


def _show_exception(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    print(*_traceback(kind, value, trace), sep="\n", file=sys.stderr, flush=True)


def _traceback(kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> list[str]:
    lines: list[str] = []
    for part in traceback.format_exception(kind, value, trace):
        # A frame has two lines, and what stands between two tracebacks some empty ones; a message is a line.
        own = part.startswith(("  File ", "\n"))
        lines += part.rstrip("\n").split("\n") if own else [part.rstrip("\n")]
    return list(map(printable, lines))
