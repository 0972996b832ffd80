"""What every selector promises, run over all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import InputError
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.registry import SELECTORS, select
from hybrid.selectors.spec import parse_selector
from tests.selectors.test_registry import candidates_of

FILLS_THE_BUDGET = (
    "uniform", "top_k", "stratified", "bin_max", "aks", "bolt", "q_frame", "f2c", "mdp3", "adard_key", "tifre",
    "coverage",
)  # fmt: skip


score_lists = st.one_of(
    st.lists(st.integers(0, 5).map(float), max_size=120),
    st.lists(st.floats(-1, 1), max_size=120),
    st.tuples(st.floats(-1, 1), st.integers(0, 120)).map(lambda flat: [flat[0]] * flat[1]),
).map(lambda values: np.array(values, dtype=np.float64))


@pytest.mark.parametrize("name", SELECTORS.names)
@given(scores=score_lists, frames=st.integers(1, 70), repeat=st.sampled_from([1, 7, 200]))
@settings(deadline=None, max_examples=40)
def test_rows_increase_and_keep_to_the_budget(name: str, scores: np.ndarray, frames: int, repeat: int) -> None:
    candidates = candidates_of(scores, repeat=repeat)
    before = scores.copy()
    rows = select(name, candidates, frames)
    assert rows.dtype == np.int64
    assert (np.diff(rows) > 0).all()
    assert len(rows) <= min(frames, len(scores))
    assert ((rows >= 0) & (rows < len(scores))).all()
    assert (scores == before).all()
    assert select(name, candidates, frames).tolist() == rows.tolist()
    if name in FILLS_THE_BUDGET:
        assert len(rows) == min(frames, len(scores))
    if name != "best_first" and len(scores):
        assert len(rows) > 0


@pytest.mark.parametrize("name", SELECTORS.names)
@given(scores=score_lists, frames=st.integers(1, 70))
@settings(deadline=None, max_examples=25)
def test_the_faithful_form_ends_too(name: str, scores: np.ndarray, frames: int) -> None:
    rows = select(name, candidates_of(scores), frames, faithful=True)
    assert (np.diff(rows) >= 0).all()
    assert ((rows >= 0) & (rows < len(scores))).all()


@pytest.mark.parametrize("name", [selector.name for selector in SELECTORS if selector.draws])
def test_another_seed_draws_other_frames(name: str) -> None:
    candidates = candidates_of(np.random.default_rng(1).random(400))
    chosen = {tuple(select(name, candidates, 16, seed=seed).tolist()) for seed in range(5)}
    assert len(chosen) > 1


# best_first looks at the sign of a score, and f2c weighs scores against cosines: for them the scale counts.
@pytest.mark.parametrize(
    "name", [s.name for s in SELECTORS if "scores" in s.needs and s.name not in ("best_first", "f2c")]
)
def test_moving_and_stretching_the_scores_changes_nothing(name: str) -> None:
    # Eighths keep the arithmetic exact, so that ties stay ties.
    scores = np.random.default_rng(2).integers(0, 40, size=200) / 8
    one, other = (select(name, candidates_of(s), 16).tolist() for s in (scores, 4 * scores - 1))
    assert one == other


@pytest.mark.parametrize("name", SELECTORS.names)
def test_a_budget_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="at least 1"):
        select(name, candidates_of(np.arange(9.0)), 0)


@pytest.mark.parametrize("name", SELECTORS.names)
@pytest.mark.parametrize("faithful", [False, True])
def test_a_budget_may_be_a_whole_number_of_numpy_and_nothing_else(name: str, faithful: bool) -> None:
    candidates = candidates_of(np.random.default_rng(4).random(60))
    wanted = select(name, candidates, 9, faithful=faithful).tolist()
    for budget in (np.int64(9), np.int32(9), np.uint8(9)):
        assert select(name, candidates, budget, faithful=faithful).tolist() == wanted
    for odd in (2.5, np.float64(9), True, "9", None):
        with pytest.raises(InputError, match="must be a whole number, at least 1"):
            select(name, candidates, odd, faithful=faithful)


@pytest.mark.parametrize("name", SELECTORS.names)
def test_every_option_of_every_selector_can_be_said(name: str) -> None:
    selector = next(each for each in SELECTORS if each.name == name)
    text = f"{name}:{','.join(selector.option_texts)}" if selector.option_texts else name
    wanted = parse_selector(text)
    assert wanted.options == dict(selector.options)
    assert wanted.faithful == selector.has_quirks
    assert json.loads(json.dumps(wanted.record()))["selector"] == name


@pytest.mark.parametrize("name", SELECTORS.names)
def test_what_it_needs_is_required_and_what_it_takes_is_not(name: str) -> None:
    selector = SELECTORS.find(name)
    everything = candidates_of(np.random.default_rng(5).random(60))
    present = {need: getattr(everything, need) for need in selector.needs}
    bare = Candidates(**{"seconds": everything.seconds, **present})
    assert len(selector.select(bare, 9)) > 0
    for need in set(selector.needs) - {"seconds"}:
        with pytest.raises(InputError, match=f"needs {need}, which these candidates do not have"):
            selector.select(Candidates(**{"seconds": everything.seconds, **present, need: None}), 9)


@pytest.mark.parametrize("name", SELECTORS.names)
def test_one_video_frame_or_none_is_no_special_case(name: str) -> None:
    assert select(name, candidates_of(np.zeros(0)), 4).tolist() == []
    assert select(name, candidates_of(np.array([0.7])), 4).tolist() == [0]
