"""All selectors through the one call: what each owes to its caller, whatever the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hybrid.selectors.registry as registry
from hybrid.errors import InputError
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.maxinfo import maxinfo, rect_maxvol
from hybrid.selectors.registry import SELECTORS, select
from hybrid.selectors.tass import tass


def candidates_of(scores: np.ndarray, *, seed: int = 0, repeat: int = 1) -> Candidates:
    """Candidates with everything that a selector can need; embeddings repeat ``repeat`` times."""
    rng = np.random.default_rng(seed)
    count = len(scores)
    raw = rng.normal(size=(count // repeat + 1, 6))[np.arange(count) // repeat] + 0.5
    vectors = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    prompts = rng.normal(size=(3, 6)).astype(np.float32)
    return Candidates(
        seconds=np.arange(count) * 1.001,
        scores=scores,
        embeddings=vectors,
        query=prompts[0] / np.linalg.norm(prompts[0]),
        prompts=prompts,
        score_frames=lambda rows: scores[rows],
    )


def test_there_is_one_file_for_each_name_and_one_name_for_each_rule() -> None:
    folder = Path(registry.__file__).parent
    shared = {"__init__", "candidates", "greedy_determinant", "ranking", "registry", "selector", "spec"}
    assert {file.stem for file in folder.glob("*.py")} - shared == set(SELECTORS.names)
    assert [selector.name for selector in SELECTORS] == list(SELECTORS.names)


def test_what_each_needs_is_told() -> None:
    needs = {selector.name: selector.needs for selector in SELECTORS}
    assert needs["uniform"] == ("seconds",)
    assert needs["tass"] == ("seconds", "scores")
    assert needs["focus"] == ("seconds", "score_frames")
    assert needs["tifre"] == ("embeddings", "prompts")
    assert all(selector.summary and selector.source for selector in SELECTORS)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no selector 'akz'; did you mean 'aks'\? Legal are .*aks, bolt"):
        SELECTORS.find("akz")


def test_what_is_lacking_is_named() -> None:
    with pytest.raises(InputError, match="needs embeddings and query"):
        select("mdp3", Candidates(seconds=np.arange(3.0), scores=np.zeros(3)), 2)


def test_an_unknown_option_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="no option 'sharpness'; its options are: power"):
        select("bolt", candidates_of(np.arange(9.0)), 2, sharpness=3)
    with pytest.raises(InputError, match="its options are: none"):
        select("top_k", candidates_of(np.arange(9.0)), 2, power=3)


def test_tass_ends_whatever_it_is_given() -> None:
    scores, seconds = np.array([0.1, 0.9, 0.8, 0.7, 0.2, 0.3]), np.arange(6.0)
    for odd in (np.nan, np.inf, -np.inf):
        bad = scores.copy()
        bad[1] = odd
        with pytest.raises(InputError, match="score is not a finite number"):
            tass(bad, seconds, 2)
        late = seconds.copy()
        late[2] = odd
        with pytest.raises(InputError, match="time is not a finite number"):
            tass(scores, late, 2)
        with pytest.raises(InputError, match="gap_seconds is"):
            tass(scores, seconds, 2, gap_seconds=odd)
    assert tass(scores, np.zeros(6), 2).tolist() == [1]  # no distance lets in two of one time
    assert len(tass(scores, seconds, 2, gap_seconds=1e300)) == 2


@pytest.mark.parametrize(
    ("embeddings", "options", "said"),
    [
        (np.full((20, 8), np.nan), {}, "not finite"),
        (np.full((20, 8), np.inf), {}, "not finite"),
        (np.zeros((5, 0)), {}, r"shape \[5, 0\]; they must be \[N, D\]"),
        (np.zeros(5), {}, r"shape \[5\]"),
        (np.ones((20, 8)), {"tolerance": np.nan}, "tolerance is nan"),
        (np.ones((20, 8)), {"tolerance": np.inf}, "tolerance is inf"),
        (np.ones((20, 8)), {"rank": 0}, "rank is 0"),
        (np.ones((20, 8)), {"pool": 0}, "pool is 0"),
    ],
)
def test_maxinfo_says_what_it_cannot_work_with(embeddings: np.ndarray, options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        maxinfo(embeddings, 4, **options)  # type: ignore[arg-type]


def test_maxinfo_takes_pictures_that_are_all_alike_and_none_at_all() -> None:
    assert len(maxinfo(np.zeros((20, 8)), 4)) == len(maxinfo(np.ones((1, 8)), 4)) == 1
    assert maxinfo(np.zeros((0, 8)), 4).tolist() == []
    with pytest.raises(InputError, match=r"\[3, 8\]; it must be \[N, r\] with N >= r"):
        rect_maxvol(np.random.default_rng(0).normal(size=(3, 8)), tolerance=0.3)
    with pytest.raises(InputError, match="3 columns of the matrix depend on each other"):
        rect_maxvol(np.ones((10, 3)), tolerance=0.3)


def test_candidates_must_fit_together() -> None:
    with pytest.raises(InputError, match="need 3 scores"):
        Candidates(seconds=np.arange(3.0), scores=np.zeros(2))
    with pytest.raises(InputError, match="need embeddings"):
        Candidates(seconds=np.arange(3.0), embeddings=np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(InputError, match="not decrease"):
        Candidates(seconds=np.array([1.0, 0.0]))
    with pytest.raises(InputError, match="scores of the candidates hold"):
        Candidates(seconds=np.arange(2.0), scores=np.array([0.0, np.nan]))
