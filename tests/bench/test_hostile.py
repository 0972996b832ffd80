"""The benchmark of hostile inputs, in a short form; whole: ``python -m bench.robustness.hostile``."""

from __future__ import annotations

import pytest

from bench.robustness.hostile import MAKERS, describe, run_hostile
from bench.robustness.hostile_case import Kind

COUNTS: dict[Kind, int] = {"images": 3, "playlists": 3, "folders": 2, "packages": 4, "documents": 8}


def test_no_hostile_input_ends_in_a_traceback_or_takes_the_machine_down() -> None:
    verdicts = list(run_hostile(COUNTS, seed=3))
    assert [f"{v.case.kind}: {v.case.name}: {v.faults}: {v.outcome.output[-500:]}" for v in verdicts if v.faults] == []
    result = describe(verdicts)
    assert {kind: found["inputs"] for kind, found in result["kinds"].items()} == COUNTS
    # Most are refused; were all commands refused, the rest would prove nothing.
    codes = {verdict.outcome.code for verdict in verdicts}
    assert codes <= {0, 1, 2}
    assert 1 in codes
    assert all(verdict.outcome.peak_mb > 50 for verdict in verdicts)


@pytest.mark.parametrize("kind", MAKERS)
def test_there_are_twenty_different_inputs_of_each_kind(kind: Kind) -> None:
    assert len(MAKERS[kind]) >= 20 or kind == "documents"  # each of these draws one of thirty texts
