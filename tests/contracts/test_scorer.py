"""What every scorer promises, run over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hybrid.errors import InputError
from hybrid.scorers.interface import VideoScorer
from hybrid.scorers.registry import SCORERS
from hybrid.values import ByteArray

ScorerOf = Callable[..., VideoScorer]
ASKED = ["When is the red circle visible?", "What comes right after the blue square?"]
ALONE = ("clip", "blip-itm", "yes")
"""They look at each frame by itself; the others see its neighbours."""
# gens reads windows, whose size is a setting of its own.
BATCHED = tuple(name for name in SCORERS.names if name != "gens")


@pytest.fixture(params=SCORERS.names)
def scorer(request: pytest.FixtureRequest, scorer_of: ScorerOf) -> VideoScorer:
    made: VideoScorer = scorer_of(request.param)
    return made


def test_one_finite_number_for_each_question_and_frame(scorer: VideoScorer, frames: list[ByteArray]) -> None:
    scores = scorer.score(frames, ASKED)
    assert (scores.dtype, scores.shape) == (np.float64, (2, len(frames)))
    assert np.isfinite(scores).all()


def test_the_same_again_gives_the_same(scorer: VideoScorer, frames: list[ByteArray]) -> None:
    assert (scorer.score(frames, ASKED) == scorer.score(frames, ASKED)).all()


def test_frames_are_taken_once_and_in_order(scorer: VideoScorer, frames: list[ByteArray]) -> None:
    taken: list[int] = []

    def one_by_one() -> Iterator[ByteArray]:
        for place, frame in enumerate(frames):
            taken.append(place)
            yield frame

    assert (scorer.score(one_by_one(), ASKED) == scorer.score(frames, ASKED)).all()
    assert taken == list(range(len(frames)))


def test_other_questions_change_nothing(scorer: VideoScorer, frames: list[ByteArray]) -> None:
    together = scorer.score(frames, ASKED)
    for place, question in enumerate(ASKED):
        assert scorer.score(frames, [question])[0] == pytest.approx(together[place], abs=1e-5)


def test_no_frames_give_no_scores(scorer: VideoScorer) -> None:
    assert scorer.score([], ASKED).shape == (2, 0)


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("size", [1, 3])
def test_the_batch_size_changes_nothing(scorer_of: ScorerOf, frames: list[ByteArray], name: str, size: int) -> None:
    one, other = scorer_of(name).score(frames, ASKED), scorer_of(name, size).score(frames, ASKED)
    assert one == pytest.approx(other, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("name", ALONE)
def test_a_frame_keeps_its_score_wherever_it_stands(scorer_of: ScorerOf, frames: list[ByteArray], name: str) -> None:
    order = [3, 0, 6, 1, 5, 2, 4]
    scores = scorer_of(name).score(frames, ASKED)
    moved = scorer_of(name).score([frames[place] for place in order], ASKED)
    assert moved == pytest.approx(scores[:, order], abs=1e-5)
    assert len(np.unique(scores[0].round(6))) == len(frames)


@pytest.mark.parametrize("name", SCORERS.names)
def test_frames_of_any_form_and_of_several_sizes(scorer_of: ScorerOf, frames: list[ByteArray], name: str) -> None:
    high = [np.ascontiguousarray(frame.transpose(1, 0, 2)) for frame in frames[:2]]
    mixed = [frames[0], *high, frames[1], frames[2][::2, ::2]]
    scores = scorer_of(name).score(mixed, ASKED)
    assert scores.shape == (2, 5)
    assert np.isfinite(scores).all()
    if name in ALONE:
        assert scores[:, [0, 3]] == pytest.approx(scorer_of(name).score(frames[:2], ASKED), abs=1e-5)


@pytest.mark.parametrize("name", [name for name in SCORERS.names if name != "gens"])
def test_the_question_counts_where_it_is_read(scorer_of: ScorerOf, frames: list[ByteArray], name: str) -> None:
    first, second = scorer_of(name).score(frames, ASKED)
    assert (name == "peek") == bool((first == second).all())


def test_what_cannot_be_scored_is_refused(scorer: VideoScorer, frames: list[ByteArray]) -> None:
    with pytest.raises(InputError, match="at least one"):
        scorer.score(frames, [])
    with pytest.raises(InputError, match="the question is empty"):
        scorer.score(frames, [ASKED[0], "  "])
    for wrong in (frames[0][:, :, 0], frames[0].astype(np.float32), frames[0][:0]):
        with pytest.raises(InputError, match=r"must be uint8 \[height, width, 3\]"):
            scorer.score([frames[0], wrong], ASKED)


@pytest.mark.parametrize("name", SCORERS.names)
def test_it_says_what_it_is(scorer_of: ScorerOf, spec_of: Callable[[str], str], name: str) -> None:
    scorer = scorer_of(name)
    assert scorer.name == spec_of(name)
    assert scorer.device == "cpu"
    assert scorer.identity["weights"]
    assert all(isinstance(value, str) for value in scorer.identity.values())
