"""One reader for all JSON that this process did not write: what it takes, what it refuses, and how fast."""

from __future__ import annotations

import json
import re
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.storage.foreign_json import (
    STORED,
    ForeignJsonError,
    JsonLimitError,
    JsonLimits,
    parse_json,
    parse_json_lines,
    read_json,
)

ROOT = Path(__file__).resolve().parents[2]

_plain = st.none() | st.booleans() | st.integers(-(10**39), 10**39) | st.floats(allow_nan=False, allow_infinity=False)
_texts = st.text(st.characters(exclude_categories=["Cs"]))
_documents = st.recursive(
    _plain | _texts, lambda inner: st.lists(inner) | st.dictionaries(_texts, inner), max_leaves=30
)


@given(_documents, st.sampled_from([None, 2]), st.booleans())
def test_every_document_within_the_limits_is_what_json_makes_of_it(
    document: Any, indent: int | None, ascii_only: bool
) -> None:
    data = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    assert parse_json(data, where="f") == document
    assert parse_json(b"\xef\xbb\xbf" + data, where="f") == document
    # The exact count of levels and values, which only large documents get to, must not refuse what the quick one takes.
    limits = JsonLimits(string=max(len(data), 1))
    assert parse_json(b"[" * 30 + data + b"]" * 30, where="f", limits=limits) is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 200_000, "more than 64 levels deep"),
        ('{"a":' * 200_000, "more than 64 levels deep"),
        ('\n\n[{"a": [' * 40 + "]}]" * 40, "line 45: more than 64 levels deep"),
        ("[" * 65 + "]" * 65, "more than 64 levels deep"),
        ("[" + "1," * 1_000_000 + "1]", "more than 1000000 values"),
        ('"' + "a" * (2**20 + 1) + '"', f"a string of {2**20 + 1} characters"),
        ('{"a": "' + "a" * (2**20 + 3), f"a string of {2**20 + 2} characters"),
        ("[1,\n" + "9" * 10_000 + "]", r"line 2: the integer 9{20}\.\.\. \(10000 characters\)"),
        ("-" + "9" * 40, "is longer than 40 characters"),
        ("[0." + "1" * 400 + "]", "is too large or too long"),
        ('{"a":\n1e999}', "line 2: the number 1e999 is too large"),
        ("-1e999", "too large"),
        ("[NaN]", "NaN is no number in JSON"),
        ("[1,\nInfinity]", "line 2: Infinity is no number"),
        ("-Infinity", "-Infinity is no number"),
        ('{"a": 1,\n "b": {"c": 1, "c": 1}}', 'line 2: the key "c" is in one object twice'),
        ('["ok",\n"\\ud800"]', r"line 2: a string holds \\ud800, half of a surrogate pair"),
        ('{"\\uDFFF": 1}', "half of a surrogate pair"),
        ('"\\udcff"', "half of a surrogate pair"),
        ("x" * (16 * 2**20 + 1), "too large; at most 16777216 bytes"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_what_is_beyond_the_limits_is_refused_with_file_and_line(text: str, says: str) -> None:
    for data in (text, text.encode()):
        started = process_time()
        with pytest.raises(JsonLimitError, match=f"^archive/x.json.*{says}"):
            parse_json(data, where="archive/x.json")
        assert process_time() - started < 5


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "line 1: not JSON"),
        (b"\n\n{]", "line 3: not JSON"),
        (b"[1, 2,\n]", "line 2: not JSON"),
        (b"[1] [2]", "not JSON: Extra data"),
        (b'"\n"', "not JSON: Invalid control character"),
        (b'{"a": "unfinished', "not JSON: Unterminated string"),
        (b"{'a': 1}", "not JSON"),
        (b'["ok",\n"\xff"]', "line 2: not text in UTF-8"),
        (b'"\xed\xa0\x80"', "not text in UTF-8"),
        ("{}".encode("utf-16"), "in UTF-16 or UTF-32; save it in UTF-8"),
        ("{}".encode("utf-32"), "in UTF-16 or UTF-32"),
        ("{}".encode("utf-16-le"), "not JSON"),
        (b"\0" * 100, "not JSON"),
    ],
)
def test_what_is_no_json_is_refused_with_file_and_line(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ForeignJsonError, match=f"x.json.*{says}") as caught:
        read_json(tmp_path / "x.json")
    assert not isinstance(caught.value, JsonLimitError)


def test_names_of_files_that_are_no_text_are_taken_where_names_may_stand() -> None:
    name = b"/videos/caf\xe9.mp4".decode("utf-8", "surrogateescape")
    assert parse_json(json.dumps({"path": name}), where="f", names=True) == {"path": name}
    with pytest.raises(JsonLimitError, match="half of a surrogate pair"):
        parse_json('"\\ud83d"', where="f", names=True)
    assert parse_json('"\\ud83d\\ude00"', where="f") == "\U0001f600"


def test_deep_is_counted_without_what_strings_hold() -> None:
    brackets = ["[{" * 500, '\\" [[[ ', "]"] * 10
    assert parse_json(json.dumps(brackets), where="f") == brackets
    assert parse_json("[" * 64 + "]" * 64, where="f")


@pytest.mark.parametrize("text", ['"' * 300_001, '"\\"' * 100_000, "\\" * 300_000, '"\\', '["' + '\\"' * 150_000])
def test_no_text_takes_time_by_the_square_of_its_length(text: str) -> None:
    started = process_time()
    with pytest.raises(ForeignJsonError):
        parse_json("[[" * 40 + text, where="f", limits=JsonLimits(string=100))
    assert process_time() - started < 5


def test_lines_are_numbered_and_cut_at_line_feeds_only() -> None:
    text = '{"a": "one\u2028line\u0085"}\n\n  \n[2]\r\n'
    assert list(parse_json_lines(text.encode(), where="f")) == [(1, {"a": "one\u2028line\u0085"}), (4, [2])]
    with pytest.raises(ForeignJsonError, match="f, line 3: not JSON"):
        list(parse_json_lines("1\n2\n{\n", where="f"))


def test_no_more_of_a_file_is_read_than_is_allowed() -> None:
    with pytest.raises(JsonLimitError, match="/dev/zero: too large"):
        read_json(Path("/dev/zero"), limits=JsonLimits(size=1000))


def test_what_an_archive_lists_may_be_long() -> None:
    reasons = ["a packet is damaged " * 10] * 20_000
    assert len(json.dumps(reasons)) > JsonLimits().string
    inside = json.dumps({"note": json.dumps(reasons)})
    assert json.loads(parse_json(inside, where="f", limits=STORED)["note"]) == reasons


# What these lines read was written by the same process or one that it started, or lies in the package itself.
_OWN = {
    "hybrid/fine/reply.py": "a model's reply: repaired rather than refused, numbers unconverted, depth caught",
    "hybrid/testing/untrained_gens.py": "what the tokenizers library has just made",
    "hybrid/cli/input/questions.py": "a copy of this process's own settings",
    "bench/accuracy/run/record.py": "a copy of this process's own settings",
    "hybrid/demo/__init__.py": "a file of the package",
    "bench/robustness/kills.py": "what a child of the benchmark printed",
    "bench/latency/two_versions.py": "what a child of the benchmark printed",
    "bench/latency/index.py": "what a child of the benchmark printed",
    "bench/latency/whole_index.py": "what a child of the benchmark printed",
    "bench/latency/convert.py": "what a child of the benchmark printed",
    "bench/robustness/hostile_documents.py": "sound documents that hostile ones are made from",
    "bench/robustness/hostile_packages.py": "sound documents that hostile ones are made from",
    "bench/robustness/hostile_run.py": "what a child of the benchmark printed",
}


def test_no_other_code_parses_foreign_json() -> None:
    reads = re.compile(r"json\.loads?\(|JSONDecoder\(|model_validate_json|validate_json\(|read_json\(.*orient|orjson")
    found = set()
    for folder in ("hybrid", "indexes", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if name != "hybrid/storage/foreign_json.py" and reads.search(path.read_text(encoding="utf-8")):
                found.add(name)
    assert found <= _OWN.keys(), f"use hybrid.storage.foreign_json in {sorted(found - _OWN.keys())}"
