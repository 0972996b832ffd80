"""How an archive is searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.errors import InputError
from hybrid.options.ask import AskOptions
from hybrid.options.field import Options, Range, documented, option, plain
from hybrid.values import DEFAULT_FRAMES

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hybrid.options.keywords import SearchKeywords

__all__ = ["SearchOptions"]


def _texts(values: str | Path | Iterable[object]) -> tuple[str, ...]:
    # A text is a sequence too: of letters.
    return (str(values),) if isinstance(values, str | Path) else tuple(map(str, values))


def _read_since(value: datetime | str) -> datetime:
    if isinstance(value, str):
        from indexes.archive.lookup import read_date

        return read_date(value)
    if not isinstance(value, datetime):
        raise InputError(f"since is {value!r}; it must be a date, such as '2026-03-01', or a datetime with a time zone")
    if value.tzinfo is None:
        raise InputError(f"since is {value}; it must have a time zone")
    return value


def _read_ask(value: AskOptions | Mapping[str, Any]) -> AskOptions:
    return AskOptions(**value) if isinstance(value, Mapping) else AskOptions.of(value, {})


@documented
@dataclass(frozen=True, slots=True, init=False, repr=False)
class SearchOptions(Options):
    """How an archive is searched: what :meth:`hybrid.engine.Engine.search` takes, as one object."""

    videos: tuple[str, ...] = option(
        (),
        "Only this video (path or content id); may come many times.",
        flag="--video",
        parse=_texts,
        accepts="Sequence[str | Path]",
    )
    under: tuple[str, ...] = option(
        (), "Only videos below this folder; may come many times.", parse=_texts, accepts="Sequence[str | Path]"
    )
    since: datetime | None = option(
        None,
        "Only videos indexed since then: 2026-03-01, 2026-03-01T14:30.",
        parse=_read_since,
        accepts="datetime | str",
    )
    top: int = option(DEFAULT_FRAMES, "How many frames over all videos, at most.", legal=Range(1, unit="frame"))
    fine: int = option(0, "Ask GenS about so many of the best videos.", legal=Range(0, unit="video"))
    exact: bool = option(False, "Compare every frame, even where there is an approximate index.")
    strict: bool = option(False, "Fail where a video cannot be searched, or a stage falls back.")
    threads: int | None = option(
        None, "How many cores search.", default_text="all, up to eight", legal=Range(1, unit="core"), flag=None
    )
    ask: AskOptions = option(
        AskOptions(),
        "With fine: the options of the questions to the best videos, without fine and strict.",
        default_text="those of ask",
        parse=_read_ask,
        accepts="Options | AskKeywords",
        flag=None,
    )

    if TYPE_CHECKING:

        def __init__(self, **given: Unpack[SearchKeywords]) -> None: ...

    def check(self) -> None:
        """Refuse options of the questions that the search sets itself, or that no question would have.

        Raises:
            InputError: there is one.
        """
        for name, value in self.ask.given.items():
            if name in ("fine", "strict"):
                raise InputError(
                    f"ask says {name} = {plain(value)!r}, which is an option of the search itself; say it there"
                )
            if not self.fine:
                raise InputError(
                    f"{name} is {plain(value)!r}, which is for GenS's look at the best videos, and fine is 0; say how "
                    f"many it is asked about (--fine 3), or leave out {name}"
                )

    @property
    def questions(self) -> AskOptions:
        """The options of the questions that GenS is asked about the best videos."""
        return self.ask.changed(strict=self.strict)
