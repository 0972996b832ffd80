"""One engine, several threads: what a server stands on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hybrid.answers import Answer
from hybrid.engine import Answered, Engine, SpansChanged
from hybrid.fine.interface import FineModel
from indexes.maintenance.verify import verify_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.engine.conftest import counted_from

OpenEngine = Callable[..., Engine]

QUESTIONS = ["a red circle", "a blue square", "something green", "an empty wall", "the end", "what moves?"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("threads")
    return [
        write_demo_clip(folder / "first.mp4"),
        write_demo_clip(folder / "second.mp4", scenes=DEMO_SCENES[::-1]),
    ]


def key(answer: Answer) -> tuple[Any, ...]:
    return answer.video_id, answer.question, answer.reply, answer.spans, answer.frames


def test_threads_that_ask_a_new_archive_at_once_get_the_answers_of_one_after_another(
    open_engine: OpenEngine, clips: list[Path], tiny_scorer: object, tmp_path: Path
) -> None:
    """They meet in everything: indexing, loading models, making features, storing them, decoding replies."""
    pairs = [(clip, question) for question in QUESTIONS for clip in clips]
    alone = open_engine(scorer=counted_from(tiny_scorer), archive=tmp_path / "alone")
    expected = [key(alone.ask(clip, question, window=8)) for clip, question in pairs]
    together = open_engine(scorer=counted_from(tiny_scorer, batch=3), archive=tmp_path / "together")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: key(together.ask(*pair, window=8)), pairs))
    assert found == expected
    assert {finding.state for finding in verify_archive(together.archive)} == {"sound"}
    assert len(list(together.archive.manifests())) == 2


def test_a_consumer_that_stops_in_mid_answer_keeps_nobody_waiting(
    open_engine: OpenEngine, clips: list[Path], tiny_scorer: object
) -> None:
    engine = open_engine(scorer=counted_from(tiny_scorer, batch=2))
    expected = key(engine.ask(clips[0], QUESTIONS[1], window=8))
    stopped = engine.stream(clips[0], QUESTIONS[:1], window=8, min_score=1, spans=True)
    assert isinstance(next(stopped), SpansChanged)
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(key(engine.ask(clips[0], QUESTIONS[1], window=8))), daemon=True
    )
    thread.start()
    thread.join(120)
    assert found == [expected]
    (answered,) = [event for event in stopped if isinstance(event, Answered)]
    assert key(answered.answer) == key(engine.ask(clips[0], QUESTIONS[0], window=8, min_score=1))


def test_one_of_two_streams_can_be_cancelled(open_engine: OpenEngine, clips: list[Path], tiny_scorer: object) -> None:
    scorer = counted_from(tiny_scorer, batch=8)
    engine = open_engine(scorer=scorer)
    expected = key(engine.ask(clips[1], QUESTIONS[2], window=8))
    kept = engine.stream(clips[1], QUESTIONS[2:3], window=8, spans=True)
    cancelled = engine.stream(clips[0], QUESTIONS[:2], window=8, spans=True)
    next(kept)
    next(cancelled)
    rows = len(scorer.writer.scheduler._rows)
    cancelled.close()
    assert len(scorer.writer.scheduler._rows) < rows
    assert [key(event.answer) for event in kept if isinstance(event, Answered)] == [expected]


def test_a_model_is_loaded_once_however_many_threads_need_it(
    open_engine: OpenEngine, clips: list[Path], tiny_scorer: FineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str, **_: object) -> FineModel:
        loaded.append(name)
        return tiny_scorer

    monkeypatch.setattr("hybrid.fine.load.load_scorer", load)
    engine = open_engine()
    engine.index(clips[0])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda question: engine.ask(clips[0], question, window=4), QUESTIONS))
    assert len(loaded) == 1
