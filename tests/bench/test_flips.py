"""The benchmark of flipped bits, in a short form; whole: ``python -m bench.robustness.flips``."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.robustness.flips import Change, draw_changes, run
from indexes.stores.registry import STORES


@pytest.mark.parametrize("backend", STORES.names)
def test_no_flip_gives_another_answer_in_silence(tmp_path: Path, backend: str) -> None:
    result = run(backend, 60, 20, 5, tmp_path)
    assert result["wrong"] == []
    # Were no change noticed, the rest would prove nothing.
    assert result["outcomes"]["flip"]["told"] > 0
    assert result["outcomes"]["zeroed"]["told"] > 0


def test_half_of_the_flips_are_drawn_over_bytes() -> None:
    drawn = list(draw_changes({"large": 10**6, "small": 1}, flips=400, zeroed=100, seed=0))
    small = sum(change.file == "small" for change in drawn[:400])
    assert 60 < small < 140  # a quarter: half of those that are drawn over files
    assert all(change.bit is None and change.length for change in drawn[400:])


def test_a_change_is_one_bit_or_a_stretch_of_zeros() -> None:
    assert Change("a", 1, 7).apply(b"\x00\x00\x00") == b"\x00\x80\x00"
    assert Change("a", 1, None, 9).apply(b"abc") == b"a\x00\x00"
