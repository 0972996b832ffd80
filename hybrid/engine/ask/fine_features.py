"""The fine stage from features: no pixels and no vision tower where the store has what is needed.

All questions to a video go to GenS together, so that those that share a window share what is read
of it, and all replies are written at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.engine.ask.feature_rows import features_of, spec_of
from hybrid.engine.ask.features import FeatureReader, OpenedVideo, Rows
from hybrid.engine.ask.fine_records import Loaded, given_up, no_frames, record_frames, record_scores
from hybrid.engine.ask.gens_errors import gens_errors
from hybrid.engine.ask.streaming import ListenerError, OnFine, OnSpans, SpanStream, carried
from hybrid.engine.ask.window_frames import Reading, only
from hybrid.engine.work import Work
from hybrid.errors import MissingDependencyError, ModelError, VideoError
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import FeatureScorer, WindowScores
from hybrid.fine.windows import FeatureWindow, FineScores, merge, score_feature_windows
from hybrid.values import Window
from indexes.format.feature_list import FeatureSpec

__all__ = ["score_by_features"]

ROWS_AT_ONCE = 8192
"""Frames whose features are held in memory together: 512 MiB of a 3B model in 16 bits."""

Job = tuple[int, Window]


@dataclass(slots=True)
class _Heard:
    """What was found for one question so far.

    Attributes:
        scores: int8 [rows of the index].
        reading: its frames.
        windows: how many of its windows GenS has not read yet.
        replies: each with the first row of its window, in the order in which they were finished.
        cut_to: see :class:`~hybrid.fine.windows.FineScores`.
        finished: whether that is all, and was given.
    """

    scores: npt.NDArray[np.int8]
    reading: Reading
    windows: int
    replies: list[tuple[int, WindowScores]] = field(default_factory=list)
    cut_to: int | None = None
    finished: bool = False

    def add(self, said: Sequence[tuple[FeatureWindow, WindowScores]]) -> None:
        """What was said of a window, or of its pieces."""
        for piece, reply in said:
            merge(self.scores, piece.window.rows, reply)
            self.replies.append((int(piece.window.rows[0]), reply))
        if len(said) > 1:
            size = len(said[0][0].window)
            self.cut_to = size if self.cut_to is None else min(size, self.cut_to)
        self.windows -= 1

    def fine(self) -> FineScores:
        """All of it."""
        in_time_order = sorted(self.replies, key=lambda entry: entry[0])
        return FineScores(self.scores, tuple(reply for _, reply in in_time_order), self.cut_to)


def score_by_features(
    works: Sequence[Work],
    windows: Sequence[Sequence[Window]],
    loaded: Loaded,
    scorer: FeatureScorer,
    video: OpenedVideo,
    *,
    on_fine: OnFine,
    on_spans: OnSpans | None,
) -> None:
    """Score the windows of questions to one video, and keep the record.

    Args:
        works: one a question.
        windows: of each question.
        loaded: ``scorer``, and how long it took to load.
        scorer: keeps features of single frames apart (image mode).
        video: for the frames whose features are not stored.
        on_fine: is given what was found for each question as soon as all its replies are finished.
        on_spans: is told of spans as they are found.

    Raises:
        What ``on_fine`` or ``on_spans`` raised, as it is.
    """
    head = works[0]
    asked_for = [sum(len(window) for window in own) for own in windows]
    opening = video.take_seconds() / len(works)
    heard = [
        _Heard(np.zeros(len(work.timeline), dtype=np.int8), Reading(asked_for=n, seconds=opening), len(own))
        for work, own, n in zip(works, windows, asked_for, strict=True)
    ]

    def hear(window: FeatureWindow, said: Sequence[tuple[FeatureWindow, WindowScores]]) -> None:
        heard[window.question].add(said)
        if not heard[window.question].windows:
            finish(window.question)

    def finish(question: int) -> None:
        heard[question].finished = True
        with carried():
            on_fine(question, _recorded(works[question], heard[question], loaded, together=len(works)))

    stream = None if on_spans is None else SpanStream(works, asked_for, on_spans)
    reader = FeatureReader(head.archive, head.manifest, head.timeline, scorer, video, keep=head.options.features)
    limit: int | None = None
    started = time.perf_counter()
    try:
        for jobs in _groups(windows):
            rows = reader.fetch(np.unique(np.concatenate([window.rows for _, window in jobs])))
            parts = _parts(jobs, rows, spec_of(scorer), heard, head, stream)
            with gens_errors():
                limit = score_feature_windows(
                    scorer,
                    parts,
                    [work.question for work in works],
                    on_window=hear,
                    limit=limit,
                    listen=None if stream is None else stream.listen,
                )
        for question in _unfinished(heard):  # not one frame of its last window could be had
            finish(question)
    except ListenerError as exc:
        raise exc.error from None
    except VideoError as exc:
        for question in _unfinished(heard):
            no_frames(works[question], scorer.name, exc, windows[question], time.perf_counter() - started)
            on_fine(question, None)
    except (ModelError, MissingDependencyError) as exc:
        for question in _unfinished(heard):
            given_up(works[question], "gens", scorer.name, exc, windows[question], time.perf_counter() - started)
            on_fine(question, None)


def _unfinished(heard: Sequence[_Heard]) -> list[int]:
    """The questions of which not all is known."""
    return [question for question, one in enumerate(heard) if not one.finished]


def _groups(windows: Sequence[Sequence[Window]]) -> Iterator[list[Job]]:
    """Windows of all questions, as many together as memory should hold the features of."""
    jobs: list[Job] = []
    held: set[int] = set()
    for question, own in enumerate(windows):
        for window in own:
            more = held.union(window.rows.tolist())
            if jobs and len(more) > ROWS_AT_ONCE:
                yield jobs
                jobs, more = [], set(window.rows.tolist())
            jobs.append((question, window))
            held = more
    if jobs:
        yield jobs


def _parts(
    jobs: Sequence[Job], rows: Rows, spec: FeatureSpec, heard: Sequence[_Heard], head: Work, stream: SpanStream | None
) -> list[FeatureWindow]:
    """The windows with their features; frames that cannot be had are taken out, and noted."""
    made: dict[bytes, FrameFeatures] = {}
    unclaimed = set(rows.encoded)
    asking = {question for question, _ in jobs}
    for question in asking:
        heard[question].reading.seconds += rows.seconds / len(asking)
    parts: list[FeatureWindow] = []
    for question, window in jobs:
        kept = [row for row in window.rows.tolist() if row in rows.items]
        reading = heard[question].reading
        lost = [row for row in window.rows.tolist() if row not in rows.items]
        reading.missing += [int(head.timeline.ordinals[row]) for row in lost]
        reading.frames += len(kept)
        reading.from_store += len(rows.stored.intersection(kept))
        reading.frames_decoded = max(reading.frames_decoded, rows.frames_decoded)
        reading.notes += [note for note in rows.notes if note not in reading.notes]
        if stream is not None and lost:
            stream.missing(question, len(lost))
        if not kept:
            heard[question].windows -= 1
            continue
        shown = only(window, kept)
        name = shown.rows.tobytes()
        if name not in made:
            # Who first needs a frame is charged with what its features took.
            own = unclaimed.intersection(kept)
            unclaimed -= own
            share = len(own) / max(1, len(rows.encoded))
            seconds = {part: share * took for part, took in rows.tower_seconds.items()} if own else {}
            made[name] = features_of([rows.items[row] for row in kept], spec, seconds=seconds)
        parts.append(FeatureWindow(question, shown, made[name]))
    return parts


def _recorded(work: Work, one: _Heard, loaded: Loaded, *, together: int) -> FineScores:
    """What was found for a question, now that it is on record; what several took together is shared out."""
    details: dict[str, Any] = {"questions_together": together} if together > 1 else {}
    reading, fine = one.reading, one.fine()
    encoded = reading.frames - reading.from_store
    record_frames(work, reading, details={"from_store": reading.from_store, "encoded": encoded, **details})
    seconds = sum(sum(reply.seconds.values()) for reply in fine.replies)
    record_scores(work, fine, loaded, frames=reading.frames, seconds=seconds, details=details)
    return fine
