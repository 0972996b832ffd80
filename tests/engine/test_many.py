"""Many questions at once: the answers of one by one, work that is shared, spans while they are written, segments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hybrid.answers import Answer, Stage
from hybrid.engine import Answered, AskEvent, Engine, SpansChanged
from hybrid.engine.models import ModelPool
from hybrid.errors import InputError, ModelError, OutOfMemoryError, StageFailedError
from hybrid.fine.interface import Event, ReplyFinished, Request, RequestFailed
from hybrid.spans import spans_of_scores
from indexes.archive.writer import Archive
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


@pytest.mark.parametrize(
    "options",
    [{"window": 8}, {"window_mode": "segments", "window": 10, "segments": 2}, {"coarse": False, "window": 16}],
)
def test_an_answer_is_given_while_others_are_written(
    open_engine: OpenEngine, demo_clip: Path, tiny_scorer: object, options: dict[str, object]
) -> None:
    engine = open_engine(scorer=counted_from(tiny_scorer, batch=2))
    stream = engine.stream(demo_clip, QUESTIONS, min_score=1, spans=True, **options)  # type: ignore[arg-type]
    told = list(stream)
    given = [event for event in told if isinstance(event, Answered)]
    assert sorted(event.question for event in given) == list(range(len(QUESTIONS)))
    answers = [event.answer for event in sorted(given, key=lambda event: event.question)]
    assert [answer.question for answer in answers] == QUESTIONS
    for event in given:
        assert told[told.index(event) - 1] == SpansChanged(event.question, event.answer.spans, finished=True)
    first = told.index(given[0])
    begun = {entry.question for entry in told[:first] if isinstance(entry, SpansChanged)}
    if options == {"window": 8}:  # in the other modes questions share windows, which are read one after another
        assert len(begun) < len(QUESTIONS), "some were not even begun"
    alone = [engine.ask(demo_clip, question, min_score=1, **options) for question in QUESTIONS]  # type: ignore[arg-type]
    assert [said(answer) for answer in answers] == [said(answer) for answer in alone]


def test_questions_go_to_gens_in_groups(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.engine.ask.answers.QUESTIONS_AT_ONCE", 2)
    engine = open_engine(scorer=scorer)
    stream = engine.stream(demo_clip, QUESTIONS, window=8)
    calls = {event.question: len(scorer.asked) for event in stream}
    assert calls == {0: 1, 1: 1, 2: 2, 3: 2, 4: 3}


def test_without_gens_each_question_is_answered_before_the_next_is_looked_for(
    open_engine: OpenEngine, demo_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    searched: list[object] = []
    search = Archive.search
    monkeypatch.setattr(Archive, "search", lambda self, *rest: searched.append(rest) or search(self, *rest))
    stream = engine.stream(demo_clip, QUESTIONS, fine=False, select="top_k")
    given = [(event.question, len(searched)) for event in stream]
    assert given == [(index, index + 1) for index in range(len(QUESTIONS))]


def test_a_caller_that_stops_ends_the_work(open_engine: OpenEngine, demo_clip: Path, tiny_scorer: object) -> None:
    scorer = counted_from(tiny_scorer, batch=1)
    engine = open_engine(scorer=scorer)
    stream = engine.stream(demo_clip, QUESTIONS, window=8)
    first = next(stream)
    stream.close()
    scheduler = scorer.writer.scheduler
    assert (scheduler._rows, len(scheduler._waiting)) == ([], 0)
    answers = engine.ask_many(demo_clip, QUESTIONS, window=8)
    assert said(answers[first.question]) == said(first.answer)


class Failing(Counted):
    """A real scorer that fails all requests that are left when it has written some replies."""

    def __init__(self, *arguments: Any, after: int, error: Exception) -> None:
        super().__init__(*arguments)
        self.after, self.error = after, error

    def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
        left = {request.id for request in requests}
        for event in super().read(requests, partial=partial):
            if isinstance(event, ReplyFinished):
                if self.after == 0:
                    self.after = -1
                    yield from (RequestFailed(each, self.error) for each in left)
                    return
                self.after -= 1
                left.remove(event.request_id)
            yield event

    @classmethod
    def like(cls, scorer: Counted, *, after: int, error: Exception) -> Failing:
        return cls(scorer._checkpoint, scorer.prompt, scorer.options, after=after, error=error)


def test_what_was_answered_before_a_failure_stays(
    open_engine: OpenEngine, demo_clip: Path, tiny_scorer: object
) -> None:
    scorer = Failing.like(counted_from(tiny_scorer, batch=1), after=2, error=ModelError("it broke"))
    stream = open_engine(scorer=scorer).stream(demo_clip, QUESTIONS, window=8)
    given = {event.question: event.answer for event in stream}
    assert len(given) == len(QUESTIONS)
    whole = [answer for answer in given.values() if answer.reply is not None]
    assert whole == list(given.values())[:2]
    assert all("it broke" in str(stage(answer, "gens").fallback_reason) for answer in list(given.values())[2:])


class Forgetful(Counted):
    """A real scorer that ends with the events of the first requests only."""

    ended = 0

    def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
        yield from super().read(requests[: self.ended], partial=partial)


@pytest.mark.parametrize("ended", [0, 2])
def test_a_model_that_does_not_end_its_requests_is_no_empty_answer(
    open_engine: OpenEngine, demo_clip: Path, tiny_scorer: object, ended: int
) -> None:
    plain = counted_from(tiny_scorer)
    scorer = Forgetful(plain._checkpoint, plain.prompt, plain.options)
    scorer.ended = ended
    engine = open_engine(scorer=scorer)
    answers = engine.ask_many(demo_clip, QUESTIONS, window=8)
    for index, answer in enumerate(answers):
        reason = stage(answer, "gens").fallback_reason
        assert (answer.reply is not None, reason is None) == (index < ended, index < ended)
        assert index < ended or f"gave no reply to one of {len(QUESTIONS)} windows" in str(reason)
    with pytest.raises(StageFailedError, match="must end each request with an event"):
        engine.ask_many(demo_clip, QUESTIONS, window=8, strict=True)


def test_windows_that_were_read_in_full_are_not_cut_when_memory_runs_out(
    open_engine: OpenEngine, demo_clip: Path, tiny_scorer: object
) -> None:
    plain = counted_from(tiny_scorer, batch=1)
    engine = open_engine(scorer=plain)
    whole = engine.ask_many(demo_clip, QUESTIONS[:3], window=16)
    scorer = Failing.like(plain, after=1, error=OutOfMemoryError("out of memory"))
    stream = open_engine(scorer=scorer).stream(demo_clip, QUESTIONS[:3], window=16)
    answers = {event.question: event.answer for event in stream}
    assert sorted(answers) == [0, 1, 2]
    first, *cut = answers
    assert said(answers[first]) == said(whole[first])
    assert stage(answers[first], "gens").fallback_reason is None
    for gens in (stage(answers[place], "gens") for place in cut):
        assert gens.details["windows"] == 2
        assert "windows were cut to 8 frames" in str(gens.fallback_reason)


def test_spans_are_told_while_they_are_written(open_engine: OpenEngine, demo_clip: Path, scorer: Counted) -> None:
    engine = open_engine(scorer=scorer)
    stream = engine.stream(
        demo_clip, QUESTIONS[:3], window_mode="segments", window=10, segments=2, min_score=1, spans=True
    )
    updates, answers = split(stream)
    for index, answer in enumerate(answers):
        mine = [update for update in updates if update.question == index]
        assert [update.finished for update in mine] == [False] * (len(mine) - 1) + [True]
        assert mine[-1].spans == answer.spans
    assert {update.question for update in updates} == {0, 1, 2}
    assert any(not update.finished and update.spans for update in updates)


def split(stream: Iterable[AskEvent]) -> tuple[list[SpansChanged], list[Answer]]:
    """The changes of spans, and the answers in order of their questions."""
    events = list(stream)
    answers = {event.question: event.answer for event in events if isinstance(event, Answered)}
    return [event for event in events if isinstance(event, SpansChanged)], [answers[i] for i in range(len(answers))]


def test_who_takes_an_event_may_ask(open_engine: OpenEngine, demo_clip: Path, scorer: Counted) -> None:
    """In a thread of its own: it used to wait for itself for ever."""
    engine = open_engine(scorer=scorer)
    inner: list[Answer] = []

    def ask() -> None:
        for event in engine.stream(demo_clip, QUESTIONS[:1], spans=True):
            if isinstance(event, SpansChanged) and not inner:
                inner.append(engine.ask(demo_clip, QUESTIONS[1]))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(200)
    assert [said(answer) for answer in inner] == [said(engine.ask(demo_clip, QUESTIONS[1]))]


def test_several_threads_ask_one_engine(open_engine: OpenEngine, demo_clip: Path, tiny_scorer: object) -> None:
    engine = open_engine(scorer=counted_from(tiny_scorer, batch=3))
    engine.index(demo_clip)
    alone = [said(engine.ask(demo_clip, question, window=8)) for question in QUESTIONS]
    suspended = engine.stream(demo_clip, QUESTIONS[:2], window=8, spans=True)
    next(suspended)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda question: said(engine.ask(demo_clip, question, window=8)), QUESTIONS * 2))
    assert together == alone * 2
    assert [said(answer) for answer in split(suspended)[1]] == alone[:2]


def test_a_scorer_that_takes_frames_only_is_asked_one_by_one(open_engine: OpenEngine, demo_clip: Path) -> None:
    replies = ('{"1": 5}', '{"2": 4}', "I cannot say.")
    scorer = Recorded(*replies)
    engine = open_engine(scorer=scorer)
    events = [(event, len(scorer.shown)) for event in engine.stream(demo_clip, QUESTIONS[:3], window=8, spans=True)]
    given = [(event.question, shown) for event, shown in events if isinstance(event, Answered)]
    updates, answers = split(event for event, _ in events)
    assert given == [(0, 1), (1, 2), (2, 3)], "each before GenS is asked the next"
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
        def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
            if max(request.frames.frame_count for request in requests) > 12:
                yield from (RequestFailed(request.id, OutOfMemoryError("out of memory")) for request in requests)
            else:
                yield from super().read(requests, partial=partial)

    plain = counted_from(tiny_scorer)
    small = Small(plain._checkpoint, plain.prompt, plain.options)
    engine = open_engine(scorer=small)
    updates, answers = split(engine.stream(demo_clip, QUESTIONS[:2], min_score=1, spans=True))
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
    def full(requests: Sequence[Request], **_: object) -> Iterator[Event]:
        return (RequestFailed(request.id, OutOfMemoryError("1 frame does not fit")) for request in requests)

    monkeypatch.setattr(scorer, "read", full)
    answers = open_engine(scorer=scorer).ask_many(demo_clip, QUESTIONS[:2], frames=3)
    assert all("1 frame does not fit" in str(stage(answer, "gens").fallback_reason) for answer in answers)
    assert [len(answer.frames) for answer in answers] == [3, 3]


def test_many_windows_are_read_in_groups_that_memory_holds(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(scorer=scorer)
    whole = engine.ask_many(demo_clip, QUESTIONS[:2], coarse=False, window=8)
    assert len(scorer.asked) == 1
    monkeypatch.setattr("hybrid.engine.ask.window_frames.ROWS_AT_ONCE", 16)
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
    similar = vectors @ ModelPool(engine.settings).encoder_for(None).encode_text(QUESTIONS[0]).vector
    edges = [0, 9, 17, 25, 33, 41]
    means = [sorted(similar[a:b])[-8:] for a, b in pairwise(edges)]
    best = max(range(5), key=lambda place: sum(means[place]) / len(means[place]))
    ordinals = [frame.ordinal for frame in answer.frames]
    assert edges[best] <= min(ordinals)
    assert max(ordinals) < edges[best + 1]


def test_segments_without_gens_are_the_coarse_answer(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine()
    plain = engine.ask(demo_clip, QUESTIONS[0], fine=False, frames=6)
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
    updates, (answer,) = split(engine.stream(demo_clip, QUESTIONS[:1], coarse=False, window=64, spans=True))
    scores = [0] * 41
    for row, score in ((1, 5), (2, 5), (9, 4)):
        scores[row] = score
    expected = spans_of_scores(engine.archive.timeline(answer.video_id), np.array(scores), gap_samples=1)
    assert updates[-1].spans == answer.spans == expected


def test_only_the_first_question_is_told_that_the_video_was_indexed_now(
    open_engine: OpenEngine, tmp_path: Path, demo_clip: Path
) -> None:
    """What is to be known of the video itself is told with every answer."""
    cut = tmp_path / "cut.mkv"
    with av.open(str(demo_clip)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    engine = open_engine()
    answers = engine.ask_many(cut, QUESTIONS[:3], fine=False)
    (manifest,) = engine.archive.manifests()
    assert manifest.note
    first, *further = [stage(answer, "index") for answer in answers]
    assert first.notes[0].startswith(f"indexed now: {manifest.frames} frames in ")
    assert first.notes[1:] == (manifest.note,)
    for index in [*further, stage(engine.ask(cut, QUESTIONS[0], fine=False), "index")]:
        assert (index.ran, index.notes, index.device) == (False, (manifest.note,), None)
        assert index.details["outcome"] == "found"
        assert index.details["seconds"] == {}
