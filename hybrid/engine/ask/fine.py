"""The fine stage: have a model read the windows of questions, and keep the record.

A model that can be given features gets all questions together, with features from the store or from the video; any
other gets frames, question by question. When it cannot run, the answer is left to the coarse stage, with the reason on
record.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hybrid.engine.ask.context import AskContext
from hybrid.engine.ask.events import SpansChanged
from hybrid.engine.ask.fine_records import LoadedModel, record_fallback, record_frames, record_no_frames, record_scores
from hybrid.engine.ask.window_frames import Reading, windows_of_features, windows_of_frames
from hybrid.engine.features.encoder import features_unavailable_reason
from hybrid.engine.features.store import FeatureReader
from hybrid.engine.models import Models
from hybrid.engine.videos import OpenedVideo
from hybrid.errors import MissingDependencyError, ModelError, VideoError
from hybrid.fine.interface import FeatureModel, WindowScores
from hybrid.fine.windows import AskedWindow, FineScores, PieceScored, WindowFailed, WindowRead, WindowReader, merge
from hybrid.runtime import as_model_error, model_errors
from hybrid.values import Window

__all__ = ["FineFinished", "read_with_model"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class FineFinished:
    """The fine stage has ended for a question, and its record is kept.

    Attributes:
        question: index of the question.
        scores: what the model said; None if it could not run for this question.
    """

    question: int
    scores: FineScores | None


FineEvent = SpansChanged | FineFinished


def read_with_model(
    contexts: Sequence[AskContext], windows: Sequence[Sequence[Window]], models: Models, *, spans: bool
) -> Generator[FineEvent, None, None]:
    """Read the windows of questions about one video.

    Args:
        contexts: one a question.
        windows: of each question: disjoint and in time order.
        models: gives the fine-stage model.
        spans: also give :class:`SpansChanged`.

    Yields:
        Events; of each question one :class:`FineFinished`.

    Raises:
        StageFailedError: ``strict``, and the stage could not do all that it was asked to.
    """
    video = contexts[0].video
    questions = [_Question(*each) for each in zip(range(len(contexts)), contexts, windows, strict=True)]
    with video.open() as opened:
        loaded = _load(questions, opened, models)
        if loaded is None:
            yield from (FineFinished(each.index, None) for each in questions)
            return
        model = loaded.model
        reason = features_unavailable_reason(model)
        if isinstance(model, FeatureModel) and reason is None:
            opening = opened.take_seconds() / len(questions)
            for each in questions:
                each.reading.seconds = opening
            keep = contexts[0].options.features
            reader = FeatureReader(video.archive, video.manifest, video.timeline, model, opened, keep=keep)
            jobs = [(each.index, window, each.reading) for each in questions for window in each.windows]
            yield from _read(questions, windows_of_features(jobs, reader, model), loaded, by_features=True, spans=spans)
            return
        for each in questions:
            if isinstance(model, FeatureModel) and each.context.options.features:
                each.reading.notes.append(f"features are not kept: {reason}")
            frames = windows_of_frames(each.index, each.windows, opened, model.prepare, each.reading)
            yield from _read([each], frames, loaded, by_features=False, spans=spans)


@dataclass(slots=True, eq=False)
class _Question:
    """What is known of one question so far.

    Attributes:
        index: of the question.
        context, windows: see :func:`read_with_model`.
        scores: int8 [rows of the index], of the windows that are read.
        partial: likewise, with the entries of replies that are still being written.
        reading: its frames.
        windows_read: how many of its windows the model has finished.
        replies: each with the first row of its window, in the order in which they were finished.
        cut_to: see :class:`~hybrid.fine.windows.FineScores`.
        finished: whether its :class:`FineFinished` was given.
    """

    index: int
    context: AskContext
    windows: Sequence[Window]
    scores: npt.NDArray[np.int8] = field(init=False)
    partial: npt.NDArray[np.int8] = field(init=False)
    reading: Reading = field(init=False)
    windows_read: int = 0
    replies: list[tuple[int, WindowScores]] = field(default_factory=list)
    cut_to: int | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        rows = len(self.context.video.timeline)
        self.scores, self.partial = np.zeros(rows, dtype=np.int8), np.zeros(rows, dtype=np.int8)
        self.reading = Reading(requested=sum(len(window) for window in self.windows))

    def add(self, event: WindowRead) -> None:
        """What was replied about a window, or about its pieces."""
        self.partial[event.window.window.rows] = 0
        for piece, reply in event.replies:
            for scores in (self.scores, self.partial):
                merge(scores, piece.window.rows, reply.scores)
            self.replies.append((int(piece.window.rows[0]), reply))
        if len(event.replies) > 1:
            size = len(event.replies[0][0].window)
            self.cut_to = size if self.cut_to is None else min(size, self.cut_to)
        self.windows_read += 1

    def fine_scores(self) -> FineScores:
        """All of it."""
        in_time_order = sorted(self.replies, key=lambda entry: entry[0])
        return FineScores(self.scores, tuple(reply for _, reply in in_time_order), self.cut_to)


def _load(questions: Sequence[_Question], video: OpenedVideo, models: Models) -> LoadedModel | None:
    context = questions[0].context
    started = time.perf_counter()
    try:
        # Before the model is loaded: a video that cannot be read, and of which nothing is stored, need not wait for
        # that.
        if not (context.options.features and context.video.archive.feature_lists(context.video.manifest)):
            video.source()
        with model_errors("the sampler"):
            loading = time.perf_counter()
            return LoadedModel(models.fine_model(), time.perf_counter() - loading)
    except (VideoError, ModelError, MissingDependencyError) as exc:
        for each in questions:
            _record_failure(each, models.fine_model_name, exc, time.perf_counter() - started)
    return None


def _read(
    questions: Sequence[_Question],
    batches: Generator[list[AskedWindow], None, None],
    loaded: LoadedModel,
    *,
    by_features: bool,
    spans: bool,
) -> Generator[FineEvent, None, None]:
    """Read batches of windows of these questions."""
    model = loaded.model
    by_index = {each.index: each for each in questions}
    texts = {each.index: each.context.question for each in questions}
    reader = WindowReader(model)
    started = time.perf_counter()

    def finish(each: _Question) -> Generator[FineEvent, None, None]:
        each.finished = True
        if spans:
            yield SpansChanged(each.index, each.context.spans(each.scores), finished=True)
        scores = each.fine_scores()
        reading = each.reading
        details: dict[str, Any] = {"questions_together": len(questions)} if len(questions) > 1 else {}
        if by_features:
            encoded = reading.frames - reading.from_store
            seconds = sum(sum(reply.seconds.values()) for reply in scores.replies)
            record_frames(each.context, reading, {"from_store": reading.from_store, "encoded": encoded, **details})
        else:
            seconds = time.perf_counter() - started - reading.seconds
            record_frames(each.context, reading, {})
        record_scores(each.context, scores, loaded, frames=reading.frames, seconds=seconds, details=details)
        yield FineFinished(each.index, scores)

    def fail(each: _Question, error: Exception) -> FineFinished:
        each.finished = True
        _record_failure(each, model.name, error, time.perf_counter() - started)
        return FineFinished(each.index, None)

    try:
        for batch in _with_model_errors(batches):
            for event in _with_model_errors(reader.read(batch, texts, partial=spans)):
                window = event.piece if isinstance(event, PieceScored) else event.window
                each = by_index[window.question]
                if each.finished:
                    continue
                if isinstance(event, PieceScored):
                    merge(each.partial, window.window.rows, event.scores)
                    yield SpansChanged(each.index, each.context.spans(each.partial), finished=False)
                elif isinstance(event, WindowFailed):
                    yield fail(each, as_model_error(event.error, "the sampler"))
                else:
                    each.add(event)
                    if each.windows_read + each.reading.empty_windows == len(each.windows):
                        yield from finish(each)
    except (VideoError, ModelError, MissingDependencyError) as exc:
        for each in questions:
            if not each.finished:
                yield fail(each, exc)
    for each in questions:
        if not each.finished:  # not one frame of its last window could be had
            yield from finish(each)


def _with_model_errors(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """The same items; a foreign error of a model library that comes up while one is made is one of ours."""
    with closing(items):
        while True:
            with model_errors("the sampler"):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


def _record_failure(each: _Question, model: str, error: Exception, seconds: float) -> None:
    if isinstance(error, VideoError):
        record_no_frames(each.context, model, error, each.windows, seconds)
    elif isinstance(error, ModelError | MissingDependencyError):
        record_fallback(each.context, "gens", model, error, each.windows, seconds)
    else:
        raise error
