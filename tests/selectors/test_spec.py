"""A selector and its options in one text: what is read, what is refused, and that it decides what is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid.errors import InputError
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.focus import focus
from hybrid.selectors.registry import select
from hybrid.selectors.spec import parse_selector
from tests.selectors.test_golden import GOLDEN, INPUTS, SECONDS
from tests.selectors.test_registry import candidates_of


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("aks:threshold=0.2,depth=3,faithful", "REF AKS t1=0.2 depth=3 perm K=8"),
        ("aks:faithful", "REF AKS t1=0.8 depth=5 perm K=8"),
        ("bolt:power=2.5,faithful=true", "REF BOLT power=2.5 perm K=8"),
        ("bolt:power=-1, faithful", "REF BOLT power=-1 perm K=8"),
        ("bolt:power= -1, faithful= true", "REF BOLT power=-1 perm K=8"),
    ],
)
def test_the_golden_numbers_by_text(text: str, key: str) -> None:
    chosen = parse_selector(text).choose(Candidates(seconds=SECONDS, scores=INPUTS["perm"]), 8)
    assert chosen.tolist() == GOLDEN[key]


def test_the_record_holds_what_was_not_said_too() -> None:
    assert parse_selector("aks:depth=3").record(seed=5) == {
        "selector": "aks",
        "options": {"depth": 3, "threshold": 0.8, "least_std": -100.0},
        "faithful": False,
    }
    assert parse_selector("q_frame").record(seed=5)["seed"] == 5
    assert parse_selector("q_frame:seed=0").record(seed=5)["seed"] == 0


def test_a_method_keeps_its_own_seed_unless_one_is_said() -> None:
    scores = np.random.default_rng(3).random(900)
    candidates = candidates_of(scores)
    by_own, by_other = (
        focus(candidates.seconds, lambda rows: scores[rows], 16, seed=seed).tolist() for seed in (42, 7)
    )
    assert by_own != by_other
    assert select("focus", candidates, 16).tolist() == by_own
    assert parse_selector("focus").record()["seed"] == 42
    assert parse_selector("focus:seed=7").choose(candidates, 16, seed=42).tolist() == by_other
    assert parse_selector("focus").choose(candidates, 16, seed=7).tolist() == by_other


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("akz:depth=3", "there is no selector 'akz'"),
        (
            "aks:dept=3",
            r"aks has no option 'dept'; its options are: depth=5, threshold=0.8, least_std=-100.0, faithful",
        ),
        ("uniform:faithful", "uniform has no option 'faithful'; its options are: centred=false"),
        ("aks:seed=1", "aks has no option 'seed'"),
        ("top_k:", "top_k has no option ''; its options are: none"),
        ("aks:depth", "depth is ''; it must be a whole number"),
        ("aks:depth=2.5", "depth is '2.5'; it must be a whole number"),
        (f"aks:depth={'9' * 400}", "depth is '9+'; it must be a whole number"),
        ("bolt:power=nan", "power is 'nan'; it must be a number"),
        ("tass:gap_seconds=inf", "gap_seconds is 'inf'; it must be a number"),
        ("focus:gap_seconds=far", "gap_seconds is 'far'; it must be a number or none"),
        ("aks:faithful=perhaps", "faithful is 'perhaps'; it must be true or false"),
        ("aks:depth=3,depth=4", "sets depth twice"),
        ("aks:depth=-1", "depth is -1; it must be 0 or more"),
        ("bolt:power=-2", "power is -2.0; it must be above 0, or -1"),
        ("dig:prominence=-1", "prominence is -1.0; it must be 0 or more"),
        ("q_frame:spread=0", "spread is 0.0; it must be above 0"),
        ("focus:gap_seconds=-1", "gap_seconds is -1.0; it must be 0 or more"),
        ("mdp3:balance=0", "balance is 0.0; it must be above 0"),
        ("maxinfo:rank=0", "rank is 0; it must be above 0"),
        ("coverage:reach=0", "must be above 0"),
    ],
)
def test_what_is_not_legal_is_said_with_what_is(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_selector(text)
