"""Reading the letter of an option: against what lmms-eval's own function gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.accuracy.answerers.letters import extract_letter, without_thoughts

GOLDEN = Path(__file__).parents[2] / "data" / "lmms_eval_letters.json"


def test_the_letters_are_those_of_lmms_eval() -> None:
    cases = json.loads(GOLDEN.read_text())["cases"]
    assert len(cases) > 200
    assert [extract_letter(reply, letters) for reply, letters, _ in cases] == [letter for _, _, letter in cases]


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        (" (c) no: the answer is (D).", "D"),
        ("B. a red car", "B"),
        ("I first thought of (A), but it is (C), the lamp", "C"),
        ("none of them", None),
        ("", None),
    ],
)
def test_usual_replies(reply: str, letter: str | None) -> None:
    assert extract_letter(reply, "ABCD") == letter


@pytest.mark.parametrize(
    ("reply", "left"),
    [
        ("<think>A? No.</think>\nThe answer is B.", "The answer is B."),
        ("<think>A</think> B <think>C</think>", "B"),
        ("A would be wrong.</think> B", "B"),
        ("<think>A or B, let me", "<think>A or B, let me"),
        ("B", "B"),
    ],
)
def test_thoughts_do_not_count(reply: str, left: str) -> None:
    assert without_thoughts(reply) == left


@given(st.text(), st.integers(2, 6))
def test_only_letters_of_options_come_back(reply: str, options: int) -> None:
    letters = "ABCDEF"[:options]
    found = extract_letter(reply, letters)
    assert found is None or (found in letters and found in reply)
