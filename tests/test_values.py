"""The shared values: validation, time, and the JSON round trip."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.answers import Answer, AnswerFrame, Span, Stage
from hybrid.errors import InputError
from hybrid.values import FrameBatch, MissingFrame, Sampling, Timeline, Window, check_questions
from tests.strategies import spans, timelines


def timeline(pts: list[float], *, ordinals: list[int] | None = None, missing: tuple[int, ...] = (), end: float = 10.0):
    rows = ordinals if ordinals is not None else list(range(len(pts)))
    return Timeline(
        ordinals=np.array(rows, dtype=np.int64),
        pts_seconds=np.array(pts, dtype=np.float64),
        frame_numbers=np.zeros(len(pts), dtype=np.int64),
        sampling=Sampling(),
        duration_seconds=end,
        missing=tuple(MissingFrame(k, "damaged") for k in missing),
    )


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 1001.0])
def test_a_rate_that_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="sampling rate is"):
        Sampling(rate=rate)


def test_an_unknown_policy_names_the_legal_ones() -> None:
    with pytest.raises(InputError, match="'exact' and 'keyframes'"):
        Sampling(policy="fast")  # type: ignore[arg-type]


def test_a_sample_lasts_until_the_next_one_and_the_last_until_the_end() -> None:
    assert timeline([0.0, 0.98, 2.01], end=3.5).until_seconds().tolist() == [0.98, 2.01, 3.5]


def test_a_hole_is_not_counted_as_seen() -> None:
    # Samples 1 and 2 are missing: sample 0 stands for the time up to 1 s, not up to 3 s.
    assert timeline([0.0, 3.0], ordinals=[0, 3], missing=(1, 2), end=4.0).until_seconds().tolist() == [1.0, 4.0]


def test_a_hole_at_the_end_cuts_the_last_sample() -> None:
    assert timeline([0.0, 1.0], missing=(2, 3), end=4.0).until_seconds().tolist() == [1.0, 2.0]


def test_samples_that_show_one_held_frame_end_together() -> None:
    assert timeline([0.0, 0.5, 0.5, 0.5, 4.0], end=5.0).until_seconds().tolist() == [0.5, 4.0, 4.0, 4.0, 5.0]


@given(timelines())
def test_every_sample_ends_after_it_begins_and_within_the_video(line: Timeline) -> None:
    until = line.until_seconds()
    assert (until >= line.pts_seconds).all()
    assert (until <= line.duration_seconds + 1e-9).all()
    assert (np.diff(until) >= 0).all()


@pytest.mark.parametrize(
    ("ordinals", "pts"), [([1, 1], [0.0, 1.0]), ([2, 1], [0.0, 1.0]), ([0, 1], [1.0, 0.0]), ([0, 1], [0.0])]
)
def test_a_timeline_that_is_out_of_order_is_refused(ordinals: list[int], pts: list[float]) -> None:
    with pytest.raises(InputError):
        timeline(pts, ordinals=ordinals)


def test_a_batch_checks_its_shapes() -> None:
    with pytest.raises(InputError, match="uint8"):
        FrameBatch(
            ordinals=np.arange(2),
            pts_seconds=np.zeros(2),
            frame_numbers=np.arange(2),
            rgb=np.zeros((2, 4, 4, 3), dtype=np.float32),  # type: ignore[arg-type]
        )


def test_a_window_is_in_time_order() -> None:
    with pytest.raises(InputError, match="increase"):
        Window(rows=np.array([3, 2]))


def test_a_span_cannot_end_before_it_starts() -> None:
    with pytest.raises(InputError, match="cannot end"):
        Span(start_seconds=2.0, end_seconds=1.0, score=5)


answer_frames = st.builds(
    AnswerFrame,
    seconds=st.floats(0, 1e5),
    ordinal=st.integers(0, 10**6),
    frame_number=st.integers(-1, 10**8),
    clip_similarity=st.none() | st.floats(-1, 1),
    gens_score=st.none() | st.integers(1, 5),
)
stages = st.builds(
    Stage,
    name=st.sampled_from(["index", "coarse", "frames", "gens", "select"]),
    ran=st.booleans(),
    seconds=st.floats(0, 1e4),
    model=st.none() | st.text(),
    candidates_in=st.none() | st.integers(0, 1000),
    fallback_reason=st.none() | st.text(),
    notes=st.lists(st.text()).map(tuple),
    details=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.text())),
)
answers = st.builds(
    Answer,
    question=st.text(),
    video=st.text(),
    video_id=st.text(),
    duration_seconds=st.floats(0, 1e5),
    spans=st.lists(spans()).map(tuple),
    frames=st.lists(answer_frames).map(tuple),
    stages=st.lists(stages).map(tuple),
    reply=st.none() | st.text(),
)


@given(answers)
def test_an_answer_survives_json(answer: Answer) -> None:
    assert Answer.from_json(answer.to_json()) == answer


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"question": "x"}', "null"])
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Answer.from_json(text)


def test_degraded_means_that_a_stage_fell_back() -> None:
    def with_stage(stage: Stage) -> Answer:
        return Answer("q", "v", "id", 1.0, (), (), (stage,))

    assert not with_stage(Stage("gens", ran=False, seconds=0.0, notes=("not asked for",))).degraded
    assert with_stage(Stage("gens", ran=False, seconds=0.0, fallback_reason="no weights")).degraded
    assert with_stage(Stage("gens", ran=True, seconds=0.0, fallback_reason="windows were cut")).degraded


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (" \n", "the question is empty"),
        ("x" * 10_001, "has 10001 characters; at most 10000 are legal"),
        ("why " * 2**21, "has 8388608 characters"),
        ("half \ud83d of a pair", "is not valid text"),
        (b"\xff".decode("utf-8", "surrogateescape"), "is not valid text"),
    ],
)
def test_a_question_that_nobody_can_answer(question: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_questions(["sound", question])
    check_questions(["x" * 10_000, "größe 電影"])


@pytest.mark.parametrize(
    ("pts", "ordinals", "end"),
    [
        ([0.0, float("nan")], [0, 1], 2.0),
        ([float("nan")], [0], 2.0),
        ([0.0, float("inf")], [0, 1], 2.0),
        ([0.0, 1e308], [0, 1], 2.0),
        ([-1e10, 0.0], [0, 1], 2.0),
        ([0.0, 1.0], [-1, 1], 2.0),
        ([0.0, 1.0], [0, 2**62], 2.0),
        ([0.0, 1.0], [0, 1], 1e308),
        ([0.0, 1.0], [0, 1], -1.0),
        ([0.0, 1.0], [0, 1], float("nan")),
    ],
)
def test_no_timeline_reaches_beyond_its_bounds(pts: list[float], ordinals: list[int], end: float) -> None:
    with pytest.raises(InputError):
        timeline(pts, ordinals=ordinals, end=end)


def _answer_document() -> dict[str, Any]:
    frame = AnswerFrame(seconds=1.0, ordinal=1, frame_number=29, clip_similarity=0.3, gens_score=5)
    stage = Stage(name="gens", ran=True, seconds=0.5, model="tiny", notes=("a",))
    return Answer("q", "v.mp4", "00", 9.0, (Span(0.0, 1.0, 5.0),), (frame,), (stage,), "reply").to_dict()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return [path, *(found for key, item in inner for found in _paths(item, (*path, key)))]


def test_no_field_of_an_answer_takes_a_value_of_another_kind() -> None:
    """In the place of every value of a saved answer a list of lists stands: it is refused, and in words."""
    for path in _paths(_answer_document()):
        document: Any = json.loads(json.dumps(_answer_document()))
        if not path:
            document = [[]]
        else:
            inner = document
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = [[]]
        with pytest.raises(InputError):
            Answer.from_json(json.dumps(document))
