"""JSON that this process did not write itself: the only reader of it, with limits that hold before any work is done.

Python's ``json`` answers a deep document with RecursionError, a number of 5,000 digits with a message about
the interpreter, and takes NaN, repeated keys and half of a surrogate pair in silence. Everything that is read from a
file or a package goes through this module instead. An error names the file and the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid.errors import InputError

__all__ = [
    "DATASET",
    "NOTES",
    "STORED",
    "ForeignJsonError",
    "JsonLimitError",
    "JsonLimits",
    "parse_json",
    "parse_json_lines",
    "read_json",
    "read_note",
    "read_text",
]


class ForeignJsonError(InputError):
    """A text is not JSON, or lies beyond the limits. The message names the file and the line."""


class JsonLimitError(ForeignJsonError):
    """A text may be JSON, but it, or a value in it, is refused."""


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """How large a document may be. The defaults suit what a person or a checkpoint brings.

    A document within the defaults takes at most about 100 MB once it is parsed.

    Attributes:
        size: bytes in UTF-8.
        depth: levels of arrays and objects.
        values: members of arrays and objects, all together.
        string: characters of a string, as it is written.
    """

    size: int = 16 * 2**20
    depth: int = 64
    values: int = 1_000_000
    string: int = 2**20


STORED = JsonLimits(size=256 * 2**20, values=20_000_000, string=256 * 2**20)
"""For the files of an archive, whose lists grow with the length of a video and the number of videos."""

NOTES = "__metadata__"
"""The entry of a safetensors header that holds what its writer noted."""

DATASET = JsonLimits(size=2**30, values=30_000_000)
"""For published annotations."""

_INTEGER_CHARACTERS = 40
"""Tokenizers of checkpoints state 1000000000000000019884624838656 as the length of a text."""

_NUMBER_CHARACTERS = 400

# An unfinished string reaches to the end of the text, so that no character is looked at twice.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class _Refused(Exception):
    """What a hook of the decoder does not accept: json itself raises ValueError only for what is no JSON."""


def parse_json(
    data: bytes | str, *, where: str, limits: JsonLimits = JsonLimits(), names: bool = False, line: int = 1
) -> Any:
    """Parse one JSON document.

    Args:
        data: the document; bytes must be UTF-8, with or without a byte order mark.
        where: the file it is from, for the error.
        limits: what is refused unread.
        names: whether strings may be names of files that are not text, as ``os.fsdecode`` gives them. Other
            halves of surrogate pairs, which cannot be printed or stored, are never accepted.
        line: the number of the document's first line in its file.

    Raises:
        JsonLimitError: it is beyond the limits; a key is repeated in an object; a number is not finite, or is an
            integer of more than 40 characters; a string holds half of a surrogate pair.
        ForeignJsonError: it is not JSON.
    """
    if len(data) > limits.size:
        raise _too_large(where, limits)
    text = data if isinstance(data, str) else _decode(data, where)
    _check_extent(text, where, limits, line)
    try:
        document = _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        number = line + exc.lineno - 1
        raise ForeignJsonError(f"{where}, line {number}: not JSON: {exc.msg} at column {exc.colno}") from exc
    except _Refused as exc:
        # Where it is written for the first time.
        raise JsonLimitError(f"{where}, line {_line_at(text, text.find(exc.args[1]), line)}: {exc.args[0]}") from None
    if _SURROGATE_ESCAPE.search(text):
        _check_surrogates(document, text, where, names=names, line=line)
    return document


def parse_json_lines(
    data: bytes | str, *, where: str, limits: JsonLimits = JsonLimits(), names: bool = False
) -> Iterator[tuple[int, Any]]:
    """Parse a file with one document a line; empty lines are skipped.

    Yields:
        (number of the line, from 1; its document).

    Raises:
        ForeignJsonError: as :func:`parse_json`, with the number of the line. ``limits`` apply to each line.
    """
    text = data if isinstance(data, str) else _decode(data, where)
    # Not splitlines: a string may hold U+2028 and other characters that it cuts at.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, parse_json(line, where=where, limits=limits, names=names, line=number)


def read_json(path: Path, *, limits: JsonLimits = JsonLimits(), names: bool = False) -> Any:
    """Parse the JSON document in a file. No more of the file is read than the limits allow.

    Raises:
        OSError: it cannot be read.
        ForeignJsonError: see :func:`parse_json`.
    """
    return parse_json(read_text(path, limits=limits), where=str(path), limits=limits, names=names)


def read_text(path: Path, *, limits: JsonLimits = JsonLimits()) -> str:
    """The text in a file, in UTF-8 with or without a byte order mark.

    Raises:
        OSError: it cannot be read.
        ForeignJsonError: it is larger than ``limits.size``, or no text in UTF-8.
    """
    with path.open("rb") as file:
        data = file.read(limits.size + 1)
    if len(data) > limits.size:
        raise _too_large(str(path), limits)
    return _decode(data, str(path))


def read_note(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object that a writer put under a name into the notes of a safetensors file.

    Args:
        data: content of the file.
        name: of the note.

    Raises:
        InputError: there is no such note, or it is no JSON object.
    """
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    notes = parse_json(header, where="its header", limits=STORED).get(NOTES)
    text = notes.get(name) if isinstance(notes, dict) else None
    note = parse_json(text, where=f"its note {name}", limits=STORED) if isinstance(text, str) else None
    if not isinstance(note, dict):
        raise InputError(f"it has no note {name}")
    return note


def _too_large(where: str, limits: JsonLimits) -> JsonLimitError:
    return JsonLimitError(f"{where}: too large; at most {limits.size} bytes are read")


def _decode(data: bytes, where: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ForeignJsonError(f"{where}: it is in UTF-16 or UTF-32; save it in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        number = data.count(b"\n", 0, exc.start) + 1
        raise ForeignJsonError(f"{where}, line {number}: not text in UTF-8: {exc.reason}") from exc


def _check_extent(text: str, where: str, limits: JsonLimits, line: int) -> None:
    """Refuse what is too deep or too long, before it is parsed. Cheap counts clear all but large documents."""
    opened = text.count("[") + text.count("{")
    if opened <= limits.depth and opened + text.count(",") <= limits.values and len(text) <= limits.string:
        return
    depth = values = 0
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first == '"':
            if token.end() - token.start() - 2 > limits.string:
                fault = f"a string of {token.end() - token.start() - 2} characters; at most {limits.string} are read"
                raise JsonLimitError(f"{where}, line {_line_at(text, token.start(), line)}: {fault}")
            continue
        if first in "]}":
            depth -= 1
            continue
        values += 1
        depth += first != ","
        if depth > limits.depth or values > limits.values:
            limit = f"{limits.depth} levels deep" if depth > limits.depth else f"{limits.values} values"
            raise JsonLimitError(f"{where}, line {_line_at(text, token.start(), line)}: more than {limit}")


def _line_at(text: str, position: int, line: int) -> int:
    return line + text.count("\n", 0, max(position, 0))


def _check_surrogates(document: object, text: str, where: str, *, names: bool, line: int) -> None:
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend((*value, *value.values()))
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str):
            try:
                value.encode("utf-8", "surrogateescape" if names else "strict")
            except UnicodeEncodeError as exc:
                half = ascii(value[exc.start])[1:-1]
                number = _line_at(text, text.lower().find(half), line)
                fault = f"a string holds {half}, half of a surrogate pair, which is no character"
                raise JsonLimitError(f"{where}, line {number}: {fault}") from exc


def _integer(written: str) -> int:
    if len(written) <= _INTEGER_CHARACTERS:
        return int(written)
    raise _Refused(f"the integer {_short(written)} is longer than {_INTEGER_CHARACTERS} characters", written)


def _float(written: str) -> float:
    if len(written) <= _NUMBER_CHARACTERS and abs(number := float(written)) != float("inf"):
        return number
    raise _Refused(f"the number {_short(written)} is too large or too long", written)


def _constant(written: str) -> float:
    raise _Refused(f"{written} is no number in JSON", written)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"the key {_short(json.dumps(key))} is in one object twice", json.dumps(key))
    return found


def _short(written: str) -> str:
    return written if len(written) <= 40 else f"{written[:20]}... ({len(written)} characters)"


_DECODER = json.JSONDecoder(
    parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object, strict=True
)
