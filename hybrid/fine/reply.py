"""Parses the reply of a fine-stage model: scores from 1 to 5 for positions of its window.

The requested form is one JSON object, ``{"11-12": 5, "33": 2}``: keys are labels of frames or
inclusive ranges of labels, values are scores. A reply may be cut at the token limit,
wrapped in prose or a code fence, written with decimals, units, other quotes or dashes, name frames
that do not exist, or name one frame twice. One grammar reads all of it:

    key     = range, ranges separated by ", ", ";" or "and"     "3-5", "Frame 3", "Number 3 - Number 5", "3, 7-9"
    range   = label, or two with a dash, "to" or "through"
    label   = words such as "frame" or "number", a number, a unit of seconds
    score   = number, perhaps "/5" or "out of 5"                5, "5", "4/5"
    entry   = key: score;   key: {score field};   or the fields of an object:
              {label field, score field} or {start field, end field, score field}, fields by the words in their names

All that is unambiguous is used; each repair and each dropped part is noted; nothing is guessed. Any text is legal
input, and the work is linear in its length.

Labels are numbers of frames in the window. Nothing here knows of seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from hybrid.fine.interface import ReplyStatus

__all__ = ["ParsedReply", "parse_reply"]

SCORES = (1, 2, 3, 4, 5)

_QUOTES = "\"'\u2018\u2019\u201c\u201d"
_DASHES = "-~\u2010\u2011\u2012\u2013\u2014\u2015\u2212"

_WHOLE = re.compile(r"([0-9]+)(?:\.0*)?")
_WORD = r"(?:from|frames?|images?|img|pictures?|numbers?|no\.?|index|idx|timestamps?|time|seconds?|secs?|\#)"
_LABEL = (
    rf"(?:{_WORD}[\s_:]{{0,4}}){{0,3}}[\[(<]?\s{{0,4}}([0-9]+(?:\.[0-9]*)?)\s{{0,4}}"
    r"(?:s|secs?|seconds?)?\s{0,4}[\])>]?"
)
_RANGE = rf"\s{{0,8}}{_LABEL}(?:\s{{0,4}}(?:[{_DASHES}]|to|through)\s{{0,4}}{_LABEL})?\s{{0,8}}"
_KEY = re.compile(_RANGE, re.IGNORECASE)
_NEXT = re.compile(r",\s|;|\band\b|&", re.IGNORECASE)
_PLAIN_KEY = re.compile(r"[0-9]+(?:-[0-9]+)?")
_SCORE = re.compile(r"\s*([0-9.]{1,63}?)\s{0,4}(?:(?:/|out of)\s{0,4}5)?\s*", re.IGNORECASE)
_PLAIN_SCORE = re.compile(r"[0-9]+")

_FIELDS: dict[str, tuple[str, ...]] = {
    "score": ("score", "relevance", "rating"),
    "start": ("start", "begin", "from", "first"),
    "end": ("end", "to", "until", "last"),
    "label": (
        *("frame", "image", "img", "picture", "number", "index", "idx", "timestamp", "time", "second"),
        *("range", "interval", "segment", "span", "label"),
    ),
}
"""What a field without a number in its name is, by its words; the first that fits ("frame_score" is a score)."""

# One entry in a text that is not JSON, or where an object begins or ends. The key must be quoted on both sides: "12:05"
# or "Question 1: 5" in prose are no entries. All repetitions are bounded, so that a search costs linear time.
_ENTRY = re.compile(
    rf"[{{}}]|[{_QUOTES}]([^{_QUOTES}]{{1,64}})[{_QUOTES}]\s{{0,16}}:\s{{0,16}}"
    rf"(?:[{_QUOTES}]([^{_QUOTES}]{{1,64}})[{_QUOTES}]|[{_QUOTES}]?([^\s,;{{}}\[\]`{_QUOTES}]{{1,24}})(?![\w.]))"
)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")

_RANGE_TERMS = frozenset({"range", "interval", "segment", "span"})
"""Two numbers in a field of such a name are its ends."""

_LONGEST_KEY = 1000
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
    """A JSON number as text: it may be longer than Python converts."""


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
        spans = _read_key(key, notes)
        score = _read_score(value, key, notes)
        if score is None or not spans:
            continue
        if seen.setdefault(key, score) != score:
            notes.add("the same key with different scores, kept the highest", _short(key))
        for first, last in spans:
            _paint_span(paint, first - first_index, last - first_index, count, score, key, notes)
    scores, overlap = paint.highest()
    if overlap is not None:
        notes.add("frames named with different scores, kept the highest", f"frame {overlap + first_index}")
    lines = notes.lines()
    status: ReplyStatus = "empty" if not scores else "salvaged" if lines else "ok"
    return ParsedReply(scores, status, lines)


def _paint_span(paint: _Paint, first: int, last: int, count: int, score: int, key: str, notes: _Notes) -> None:
    if last < 0 or first >= count:
        notes.add(f"dropped: names no frame of the {count} shown", _short(key))
        return
    if first < 0 or last >= count:
        notes.add(f"clipped to the {count} frames shown", _short(key))
    paint.add(max(first, 0), min(last, count - 1), score)


def _entries(text: str, notes: _Notes) -> Iterator[tuple[str, object]]:
    """All pairs of key and score, in order: of the JSON, or if it is none, of what looks like entries."""
    stripped = text.strip()
    document = _load(stripped)
    if document is None:
        document = _load(_TRAILING_COMMA.sub(r"\1", _embedded(stripped)))
        if document is not None:
            notes.add("the reply is not one JSON object")
    elif not isinstance(document, _Pairs):
        notes.add("the reply is JSON, but not an object")
    if document is not None:
        for owner, pairs in _objects(document, notes):
            yield from _entries_of(pairs, owner, notes)
        return
    groups = list(_groups(text))
    if groups:
        cut = stripped.startswith(("{", "[")) and not stripped.endswith(("}", "]"))
        notes.add("the JSON is cut" if cut else "the reply is not one JSON object")
    else:
        notes.add("no scores in the reply")
    for pairs in groups:
        yield from _entries_of(pairs, None, notes)


def _load(text: str) -> object | None:
    """The document; None if it is no JSON."""
    try:
        document: object = json.loads(
            text, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=str
        )
    except (ValueError, RecursionError):
        return None
    return "" if document is None else document


def _embedded(text: str) -> str:
    """What lies between the first opening and the last closing bracket: without prose and code fence."""
    first = min((index for index in (text.find("{"), text.find("[")) if index >= 0), default=0)
    return text[first : max(text.rfind("}"), text.rfind("]")) + 1]


def _groups(text: str) -> Iterator[_Pairs]:
    """Entries of a text that is not JSON, those without a brace between them together."""
    pairs = _Pairs()
    for match in _ENTRY.finditer(text):
        key, quoted, bare = match.groups()
        if key is not None:
            pairs.append((key, _Number(bare) if quoted is None else quoted))
        elif pairs:
            yield pairs
            pairs = _Pairs()
    if pairs:
        yield pairs


def _objects(document: object, notes: _Notes) -> Iterator[tuple[str | None, _Pairs]]:
    """All objects with the key under which each lies, without recursion; lists of plain values stay values."""
    pending: list[tuple[str | None, object]] = [(None, document)]
    while pending:
        owner, item = pending.pop()
        if isinstance(item, _Pairs):
            plain = _Pairs()
            for key, value in item:
                if isinstance(value, _Pairs) or (isinstance(value, list) and any(isinstance(v, list) for v in value)):
                    notes.add("looked for entries inside a nested value", _short(key))
                    pending.append((key, value))
                else:
                    plain.append((key, value))
            yield owner, plain
        elif isinstance(item, list):
            pending.extend((None, part) for part in reversed(item) if isinstance(part, list))


def _entries_of(pairs: _Pairs, owner: str | None, notes: _Notes) -> Iterator[tuple[str, object]]:
    """The entries of one object: its pairs, and what its fields say together."""
    fields: dict[str, list[object]] = {"score": [], "start": [], "end": [], "label": []}
    naming = 0  # how many fields name frames
    for key, value in pairs:
        field = _field(key)
        if field is None:
            yield key, value
            continue
        naming += field == "label"
        values = value if isinstance(value, list) else [value]
        if field == "label" and len(values) == 2 and not _RANGE_TERMS.isdisjoint(_name_parts(key)):
            values = [f"{values[0]} - {values[1]}"]
        fields[field] += values
    labels = [label for label in fields["label"] if isinstance(label, str)]
    if fields["start"] or fields["end"]:
        naming += 1 + (owner is not None and _field(owner) is None)
        if len(fields["start"]) == len(fields["end"]) == 1:
            labels.append(f"{fields['start'][0]} - {fields['end'][0]}")
        else:
            naming = 2  # of a beginning without an end nothing is known
    if naming > 1:
        notes.add("dropped: an object that names its frames in several ways, or in half of one")
        return
    if not labels and owner is not None and _field(owner) is None:
        labels = [owner]
    scores = fields["score"]
    if not labels and not scores:
        return
    if len(scores) == 1:
        scores = scores * len(labels)
    if not labels or len(scores) != len(labels):
        notes.add(f"dropped: an object with {len(labels)} frames or ranges and {len(fields['score'])} scores")
        return
    notes.add("frames and scores in fields of their own")
    yield from zip(labels, scores, strict=True)


def _field(name: str) -> str | None:
    """What a field holds, by the words of its name; None if that is not known, or the name holds a number."""
    parts = _name_parts(name)
    if any(part.isdigit() for part in parts):
        return None
    return next((field for field, known in _FIELDS.items() if not parts.isdisjoint(known)), None)


def _name_parts(name: str) -> set[str]:
    """The words and numbers of a field's name, in lower case and in the singular."""
    return {word.removesuffix("s") for word in re.findall(r"[a-z]+|[0-9]+", name[:64].lower())}


def _read_key(key: str, notes: _Notes) -> list[tuple[int, int]]:
    """Ranges of labels, both ends included, the smaller one first; none if any part of the key is something else."""
    spans = []
    for part in _NEXT.split(key[:_LONGEST_KEY]):
        match = _KEY.fullmatch(part)
        first = _read_whole(match.group(1)) if match else None
        last = _read_whole(match.group(2) or match.group(1)) if match else None
        if first is None or last is None or len(key) > _LONGEST_KEY:
            notes.add("dropped: the key is no frame and no range of frames", _short(key))
            return []
        if first > last:
            notes.add("reversed range, swapped", _short(key))
        spans.append((min(first, last), max(first, last)))
    if not _PLAIN_KEY.fullmatch(key):
        notes.add("key written in another form", _short(key))
    return spans


def _read_score(value: object, key: str, notes: _Notes) -> int | None:
    if not isinstance(value, str):
        notes.add("dropped: the score is no number", _short(key))
        return None
    match = _SCORE.fullmatch(value) if len(value) < 64 else None
    score = _read_whole(match.group(1)) if match else None
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
        self._edges = np.zeros((len(SCORES), max(count, 0) + 1), dtype=np.int64)

    def add(self, first: int, last: int, score: int) -> None:
        row = self._edges[SCORES.index(score)]
        row[first] += 1
        row[last + 1] -= 1

    def highest(self) -> tuple[dict[int, int], int | None]:
        """The highest score of each position, and the first position that had several."""
        given = self._edges[:, :-1].cumsum(axis=1) > 0
        best = np.where(given, np.array(SCORES)[:, None], 0).max(axis=0)
        several = np.flatnonzero(given.sum(axis=0) > 1)
        scores = {int(position): int(best[position]) for position in np.flatnonzero(best)}
        return scores, int(several[0]) if len(several) else None
