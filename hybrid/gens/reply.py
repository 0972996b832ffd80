"""Reads what a generative frame sampler wrote: scores 1 to 5 for positions of its window.

What is asked for is one JSON object, ``{"11-12": 5, "33": 2}``: keys are labels of frames or
inclusive ranges of labels, values are scores. What comes back may be cut at the token limit,
wrapped in prose or a code fence, written with decimals, units, other quotes or dashes, name frames
that do not exist, or name one frame twice. All that is unambiguous is used and what was repaired or
dropped is noted; nothing is guessed. Any text is legal input, and the work is linear in its length.

Labels are numbers of frames in the window. Nothing here knows of seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from hybrid.gens.scorer import ReplyStatus

__all__ = ["ParsedReply", "parse_reply"]

SCORES = (1, 2, 3, 4, 5)

_QUOTES = "\"'\u2018\u2019\u201c\u201d"
_DASHES = "-~\u2010\u2011\u2012\u2013\u2014\u2015\u2212"

_WHOLE = re.compile(r"([0-9]+)(?:\.0*)?")
_LABEL = r"\[?\s{0,4}([0-9]+(?:\.[0-9]*)?)\s{0,4}(?:s|sec|secs|second|seconds)?\s{0,4}\]?"
_KEY = re.compile(rf"\s{{0,8}}{_LABEL}(?:\s{{0,4}}(?:[{_DASHES}]|to)\s{{0,4}}{_LABEL})?\s{{0,8}}", re.IGNORECASE)
_PLAIN_KEY = re.compile(r"[0-9]+(?:-[0-9]+)?")
_PLAIN_SCORE = re.compile(r"[0-9]+")

# One entry in a text that is not JSON. The key must be quoted on both sides: "12:05" or "Question 1: 5"
# in prose are no entries. All repetitions are bounded, so that a search costs linear time.
_ENTRY = re.compile(
    rf"[{_QUOTES}]([^{_QUOTES}]{{1,64}})[{_QUOTES}]\s{{0,16}}:\s{{0,16}}"
    rf"[{_QUOTES}]?([^\s,;{{}}\[\]`{_QUOTES}]{{1,24}})(?![\w.])"
)

_FAR = 10**18
"""Stands for any number with more digits than a frame can have."""


class ParsedReply(NamedTuple):
    """The usable content of a reply.

    Attributes:
        scores: position in the window -> 1..5, in order of position. Positions not named are absent.
        status: ``ok``: all was as asked; ``salvaged``: something was repaired or dropped (see
            ``notes``); ``empty``: no position has a score.
        notes: one line per kind of repair, with how often and the first case.
    """

    scores: dict[int, int]
    status: ReplyStatus
    notes: tuple[str, ...]


class _Number(str):
    """A JSON number, kept as it was written: its text may be longer than Python converts."""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its duplicate keys, which a dict would lose."""


class _Notes:
    """Counts repairs by kind and keeps the first case of each."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, case: str = "") -> None:
        count, first = self._kinds.get(kind, (0, case))
        self._kinds[kind] = (count + 1, first)

    def lines(self) -> tuple[str, ...]:
        return tuple(
            kind + (f" ({count}, first {first})" if first else "") for kind, (count, first) in self._kinds.items()
        )


def parse_reply(text: str, count: int, *, first_index: int = 0) -> ParsedReply:
    """Read the scores out of a reply.

    Args:
        text: what the model wrote.
        count: how many frames it was shown.
        first_index: the label of the first frame.

    Returns:
        Scores by position, 0 .. count - 1. A range names both of its ends. Where a position is
        named more than once, its highest score stands. Scores other than 1 to 5 are dropped,
        ranges are clipped to the frames there are.
    """
    notes = _Notes()
    paint = _Paint(count)
    seen: dict[str, int] = {}
    for key, value in _entries(text, notes):
        span = _read_key(key, notes)
        score = _read_score(value, key, notes)
        if span is None or score is None:
            continue
        if seen.setdefault(key, score) != score:
            notes.add("the same key with different scores, kept the highest", _short(key))
        first, last = span[0] - first_index, span[1] - first_index
        if last < 0 or first >= count:
            notes.add(f"dropped: names no frame of the {count} shown", _short(key))
            continue
        if first < 0 or last >= count:
            notes.add(f"clipped to the {count} frames shown", _short(key))
        paint.add(max(first, 0), min(last, count - 1), score)
    scores, overlap = paint.highest()
    if overlap is not None:
        notes.add("frames named with different scores, kept the highest", f"frame {overlap + first_index}")
    lines = notes.lines()
    status: ReplyStatus = "empty" if not scores else "salvaged" if lines else "ok"
    return ParsedReply(scores, status, lines)


def _entries(text: str, notes: _Notes) -> Iterator[tuple[str, object]]:
    """All pairs of key and value, in order: of the JSON, or if it is none, of what looks like entries."""
    stripped = text.strip()
    try:
        document = json.loads(
            stripped, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=str
        )
    except (ValueError, RecursionError):
        found = [(match.group(1), _Number(match.group(2))) for match in _ENTRY.finditer(text)]
        if found:
            cut = stripped.startswith("{") and "}" not in stripped
            notes.add("the JSON is cut" if cut else "the reply is not one JSON object")
        else:
            notes.add("no scores in the reply")
        yield from found
        return
    if not isinstance(document, _Pairs):
        notes.add("the reply is JSON, but not an object")
    yield from _walk(document, notes)


def _walk(document: object, notes: _Notes) -> Iterator[tuple[str, object]]:
    """Entries of an object and of whatever objects lie in it, without recursion."""
    pending = [document]
    while pending:
        item = pending.pop()
        if isinstance(item, _Pairs):
            for key, value in item:
                if isinstance(value, list):
                    notes.add("looked for entries inside a nested value", _short(key))
                    pending.append(value)
                else:
                    yield key, value
        elif isinstance(item, list):
            pending.extend(part for part in item if isinstance(part, list))


def _read_key(key: str, notes: _Notes) -> tuple[int, int] | None:
    """A label or a range of labels, both ends included, the smaller one first."""
    match = _KEY.fullmatch(key)
    first = _read_whole(match.group(1)) if match else None
    last = _read_whole(match.group(2) or match.group(1)) if match else None
    if first is None or last is None:
        notes.add("dropped: the key is no frame and no range of frames", _short(key))
        return None
    if first > last:
        notes.add("reversed range, swapped", _short(key))
        first, last = last, first
    elif not _PLAIN_KEY.fullmatch(key):
        notes.add("key written in another form", _short(key))
    return first, last


def _read_score(value: object, key: str, notes: _Notes) -> int | None:
    if not isinstance(value, str):
        notes.add("dropped: the score is no number", _short(key))
        return None
    score = _read_whole(value.strip()) if len(value) < 64 else None
    if score not in SCORES:
        notes.add("dropped: the score is not a whole number from 1 to 5", f"{_short(key)}: {_short(value)}")
        return None
    if not isinstance(value, _Number) or not _PLAIN_SCORE.fullmatch(value):
        notes.add("score written in another form", f"{_short(key)}: {_short(value)}")
    return score


def _read_whole(text: str) -> int | None:
    """``3`` and ``3.0`` -> 3; None for all that is no whole number."""
    match = _WHOLE.fullmatch(text)
    if match is None:
        return None
    digits = match.group(1).lstrip("0") or "0"
    return int(digits) if len(digits) < 18 else _FAR


def _short(text: str) -> str:
    return json.dumps(text if len(text) <= 40 else text[:37] + "...", ensure_ascii=False)


class _Paint:
    """Ranges of positions per score. Painting a range costs the same however long it is."""

    def __init__(self, count: int) -> None:
        self._count = max(count, 0)
        self._edges = {score: [0] * (self._count + 1) for score in SCORES}

    def add(self, first: int, last: int, score: int) -> None:
        self._edges[score][first] += 1
        self._edges[score][last + 1] -= 1

    def highest(self) -> tuple[dict[int, int], int | None]:
        """The highest score of each position, and the first position that had several."""
        scores: dict[int, int] = {}
        overlap: int | None = None
        depth = dict.fromkeys(SCORES, 0)
        for position in range(self._count):
            for score in SCORES:
                depth[score] += self._edges[score][position]
            given = [score for score in SCORES if depth[score]]
            if given:
                scores[position] = given[-1]
            if len(given) > 1 and overlap is None:
                overlap = position
        return scores, overlap
