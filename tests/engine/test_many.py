"""Many questions at once: the answers of one by one, work that is shared, spans while they are written, segments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hybrid.engine import Engine, SpanUpdate
from hybrid.engine.models import HeldModels
from hybrid.errors import InputError, OutOfMemoryError, StageFailedError
from hybrid.gens.frame_features import FrameFeatures
from hybrid.gens.scorer import OnReply, OnScores, WindowScores
from hybrid.spans import spans_of_scores
from hybrid.values import Answer, Stage
from tests.engine.conftest import Counted, Recorded, counted_from

OpenEngine = Callable[..., Engine]
QUESTIONS = ["a red circle", "the man at the door", "a blue square", "when does it begin?", "a red circle"]


def stage(answer: Answer, name: str) -> Stage:
    return next(stage for stage in answer.stages if stage.name == name)


def said(answer: Answer) -> tuple[object, ...]:
    return answer.question, answer.reply, answer.frames, answer.spans


@pytest.fixture
def scorer(tiny_scorer: object) -> Counted:
    return counted_from(tiny_scorer)


@pytest.mark.parametrize(
    "options",
    [{"window": 12}, {"coarse": False, "window": 16}, {"window_mode": "segments", "window": 10, "segments": 2}],
)
def test_together_they_give_the_answers_of_one_by_one(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted, options: dict[str, object]
) -> None:
    engine = open_engine(scorer=scorer)
    alone = [engine.ask(demo_clip, question, min_score=1, **options) for question in QUESTIONS]  # type: ignore[arg-type]
    calls = len(scorer.asked)
    together = engine.ask_many(demo_clip, QUESTIONS, min_score=1, **options)  # type: ignore[arg-type]
    assert [said(answer) for answer in together] == [said(answer) for answer in alone]
    assert len(scorer.asked) == calls + 1
    assert all(answer.spans for answer in together)
    for answer in together:
        assert stage(answer, "gens").details["questions_together"] == len(QUESTIONS)
        assert not stage(answer, "frames").ran


def test_a_window_that_questions_share_is_encoded_and_read_once(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted
) -> None:
    engine = open_engine(scorer=scorer)
    answers = engine.ask_many(demo_clip, QUESTIONS, window=64)
    assert sum(scorer.encoded) == 41
    (keys,) = scorer.asked
    assert len(keys) == len(QUESTIONS)
    assert len(set(keys)) == 1
    assert [stage(answer, "index").ran for answer in answers] == [True, False, False, False, False]
    seconds = [stage(answer, "gens").details["seconds"] for answer in answers]
    assert ["vision" in parts for parts in seconds] == [True, False, False, False, False]
    reused = [stage(answer, "gens").details["reused_tokens"] for answer in answers]
    assert sum(count > 0 for count in reused) >= len(QUESTIONS) - 1


def test_answers_are_given_as_they_come_in_groups(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.engine.groups.QUESTIONS_AT_ONCE", 2)
    engine = open_engine(scorer=scorer)
    given: list[tuple[int, str, int]] = []
    answers = engine.ask_many(
        demo_clip,
        QUESTIONS,
        window=8,
        on_answer=lambda place, answer: given.append((place, answer.question, len(scorer.asked))),
    )
    assert [(place, question) for place, question, _ in given] == list(enumerate(QUESTIONS))
    assert [calls for _, _, calls in given] == [1, 1, 2, 2, 3]
    assert [answer.question for answer in answers] == QUESTIONS


def test_spans_are_told_while_they_are_written(open_engine: OpenEngine, demo_clip: Path, scorer: Counted) -> None:
    engine = open_engine(scorer=scorer)
    updates: list[SpanUpdate] = []
    answers = engine.ask_many(
        demo_clip, QUESTIONS[:3], window_mode="segments", window=10, segments=2, min_score=1, on_spans=updates.append
    )
    for place, answer in enumerate(answers):
        mine = [update for update in updates if update.question == place]
        assert [update.finished for update in mine] == [False] * (len(mine) - 1) + [True]
        assert mine[-1].spans == answer.spans
    assert {update.question for update in updates} == {0, 1, 2}
    assert any(not update.finished and update.spans for update in updates)


def test_what_a_listener_raises_ends_the_asking_as_it_is(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted
) -> None:
    class EnoughError(ValueError):
        pass

    def enough(update: SpanUpdate) -> None:
        raise EnoughError("seen enough")

    with pytest.raises(EnoughError, match="seen enough"):
        open_engine(scorer=scorer).ask(demo_clip, QUESTIONS[0], on_spans=enough)


def test_a_listener_that_asks_is_told_that_it_cannot(open_engine: OpenEngine, demo_clip: Path, scorer: Counted) -> None:
    """In a thread of its own: it used to wait for itself for ever."""
    engine = open_engine(scorer=scorer)
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            engine.ask(demo_clip, QUESTIONS[0], on_spans=lambda update: engine.ask(demo_clip, QUESTIONS[1]) and None)
        except BaseException as exc:
            ended.append(exc)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(60)
    assert [type(exc) for exc in ended] == [InputError]
    assert "cannot ask the model that it is listening to" in str(ended[0])
    assert engine.ask(demo_clip, QUESTIONS[1]).reply


def test_a_scorer_that_takes_frames_only_is_asked_one_by_one(open_engine: OpenEngine, demo_clip: Path) -> None:
    replies = ('{"1": 5}', '{"2": 4}', "I cannot say.")
    updates: list[SpanUpdate] = []
    engine = open_engine(scorer=Recorded(*replies))
    answers = engine.ask_many(demo_clip, QUESTIONS[:3], window=8, on_spans=updates.append)
    assert [answer.reply for answer in answers] == list(replies)
    assert [answer.degraded for answer in answers] == [False, False, True]
    assert [update.question for update in updates] == [0, 1, 2]
    with pytest.raises(StageFailedError):
        open_engine(scorer=Recorded("I cannot say.")).ask_many(demo_clip, QUESTIONS, strict=True)


def test_no_questions_and_empty_ones(open_engine: OpenEngine, tmp_path: Path) -> None:
    engine = open_engine()
    assert engine.ask_many(tmp_path / "nothing.mp4", []) == []
    with pytest.raises(InputError, match="empty"):
        engine.ask_many(tmp_path / "nothing.mp4", ["a red circle", " "])


def test_windows_are_halved_until_the_device_holds_them(
    open_engine: OpenEngine, demo_clip: Path, tiny_scorer: object
) -> None:
    class Small(Counted):
        def score_many(
            self,
            features: Sequence[FrameFeatures],
            questions: Sequence[str],
            *,
            on_scores: OnScores | None = None,
            on_reply: OnReply | None = None,
        ) -> list[WindowScores]:
            if max(window.frame_count for window in features) > 12:
                raise OutOfMemoryError("out of memory")
            return super().score_many(features, questions, on_scores=on_scores, on_reply=on_reply)

    plain = counted_from(tiny_scorer)
    small = Small(plain._checkpoint, plain.prompt, plain.options)
    engine = open_engine(scorer=small)
    updates: list[SpanUpdate] = []
    answers = engine.ask_many(demo_clip, QUESTIONS[:2], min_score=1, on_spans=updates.append)
    for answer in answers:
        gens = stage(answer, "gens")
        assert gens.ran
        assert gens.details["windows"] == 4
        assert "windows were cut to 11 frames" in str(gens.fallback_reason)
    pieces = open_engine(scorer=plain).ask_many(demo_clip, QUESTIONS[:2], coarse=False, window=11, min_score=1)
    assert [answer.reply for answer in answers] == [answer.reply for answer in pieces]
    last = {update.question: update for update in updates}
    assert [(last[place].finished, last[place].spans) for place in (0, 1)] == [(True, a.spans) for a in answers]


def test_a_device_that_holds_no_frame_falls_back_for_all(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutOfMemoryError("1 frame does not fit")

    monkeypatch.setattr(scorer, "score_many", full)
    answers = open_engine(scorer=scorer).ask_many(demo_clip, QUESTIONS[:2], frames=3)
    assert all("1 frame does not fit" in str(stage(answer, "gens").fallback_reason) for answer in answers)
    assert [len(answer.frames) for answer in answers] == [3, 3]


def test_many_windows_are_read_in_groups_that_memory_holds(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(scorer=scorer)
    whole = engine.ask_many(demo_clip, QUESTIONS[:2], coarse=False, window=8)
    assert len(scorer.asked) == 1
    monkeypatch.setattr("hybrid.engine.fine_features.ROWS_AT_ONCE", 16)
    groups = engine.ask_many(demo_clip, QUESTIONS[:2], coarse=False, window=8)
    assert [said(answer) for answer in groups] == [said(answer) for answer in whole]
    # 6 windows a question: two and two, each with the rest of the first question's before the second's.
    assert [len(keys) for keys in scorer.asked[1:]] == [2, 2, 2, 2, 2, 2]


def test_segments_are_the_same_for_every_question(open_engine: OpenEngine, demo_clip: Path, scorer: Counted) -> None:
    engine = open_engine(scorer=scorer)
    answers = [
        engine.ask(demo_clip, question, window_mode="segments", window=10, segments=5) for question in QUESTIONS[:3]
    ]
    first, second, third = scorer.asked
    # 41 frames in segments of at most 10: five, of 9, 8, 8, 8 and 8 frames.
    assert first == second == third
    assert len(set(first)) == 5
    assert stage(answers[0], "gens").details["reused_tokens"] == 0
    assert stage(answers[1], "gens").details["reused_tokens"] > 41 * 16
    assert stage(answers[0], "gens").candidates_in == 41
    assert all(frame.clip_similarity is not None for frame in answers[0].frames)


def test_the_segment_with_the_most_similar_frames_is_read(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted
) -> None:
    engine = open_engine(scorer=scorer)
    answer = engine.ask(demo_clip, QUESTIONS[0], window_mode="segments", window=10, segments=1, min_score=1)
    gens = stage(answer, "gens")
    assert gens.details["windows"] == 1
    assert gens.candidates_in in (8, 9)
    vectors = engine.archive.read(answer.video_id)
    similar = vectors @ HeldModels(engine.settings).encoder_for(None).encode_text(QUESTIONS[0]).vector
    edges = [0, 9, 17, 25, 33, 41]
    means = [sorted(similar[a:b])[-8:] for a, b in pairwise(edges)]
    best = max(range(5), key=lambda place: sum(means[place]) / len(means[place]))
    ordinals = [frame.ordinal for frame in answer.frames]
    assert edges[best] <= min(ordinals)
    assert max(ordinals) < edges[best + 1]


def test_segments_without_gens_are_the_coarse_answer(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine()
    plain = engine.ask(demo_clip, QUESTIONS[0], fine=False, frames=6)
    assert engine.ask(demo_clip, QUESTIONS[0], fine=False, frames=6, window_mode="segments").frames == plain.frames
    broken = open_engine(sampler="/no/such/folder")
    assert broken.ask(demo_clip, QUESTIONS[0], frames=6, window_mode="segments").frames == plain.frames


@pytest.mark.parametrize(
    "options", [{"window_mode": "some"}, {"segments": 0}, {"window_mode": "segments", "coarse": False}]
)
def test_options_that_are_not_legal_are_refused(
    open_engine: OpenEngine, demo_clip: Path, options: dict[str, object]
) -> None:
    with pytest.raises(InputError):
        open_engine().ask(demo_clip, QUESTIONS[0], **options)  # type: ignore[arg-type]


def test_the_configuration_changes_with_what_decides_an_answer(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path
) -> None:
    engine = open_engine()
    plain = engine.configuration(demo_clip)
    assert plain == open_engine().configuration(demo_clip)
    others = [
        engine.configuration(demo_clip, frames=3),
        open_engine(sampler="other").configuration(demo_clip),
        open_engine(constrained=True).configuration(demo_clip),
        open_engine(archive=tmp_path / "b", rate=2.0).configuration(demo_clip),
    ]
    assert plain not in others
    assert all(one != two for place, one in enumerate(others) for two in others[:place])


def test_updates_hold_the_spans_of_their_scores(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine(scorer=Recorded('{"1-2": 5, "9": 4}'))
    updates: list[SpanUpdate] = []
    answer = engine.ask(demo_clip, QUESTIONS[0], coarse=False, window=64, on_spans=updates.append)
    scores = [0] * 41
    for row, score in ((1, 5), (2, 5), (9, 4)):
        scores[row] = score
    expected = spans_of_scores(engine.archive.timeline(answer.video_id), np.array(scores), gap_samples=1)
    assert updates[-1].spans == answer.spans == expected
