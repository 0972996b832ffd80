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

from hybrid.engine.feature_rows import features_of, spec_of
from hybrid.engine.features import FeatureReader, OpenedVideo, Rows
from hybrid.engine.fine_records import Loaded, given_up, no_frames, record_frames, record_scores
from hybrid.engine.gens_errors import gens_errors
from hybrid.engine.streaming import ListenerError, OnSpans, SpanStream
from hybrid.engine.window_frames import Reading, only
from hybrid.engine.work import Work
from hybrid.errors import MissingDependencyError, ModelError, VideoError
from hybrid.gens.frame_features import FrameFeatures
from hybrid.gens.scorer import FeatureScorer, WindowScores
from hybrid.gens.windows import FeatureWindow, FineScores, merge, score_feature_windows
from hybrid.values import Window
from indexes.features_list import FeatureSpec

__all__ = ["score_by_features"]

ROWS_AT_ONCE = 8192
"""Frames whose features are held in memory together: 512 MiB of a 3B model in 16 bits."""

Job = tuple[int, Window]


@dataclass(slots=True)
class _Heard:
    """What was found for one question so far."""

    scores: npt.NDArray[np.int8]
    reading: Reading
    replies: list[WindowScores] = field(default_factory=list)


def score_by_features(
    works: Sequence[Work],
    windows: Sequence[Sequence[Window]],
    loaded: Loaded,
    scorer: FeatureScorer,
    video: OpenedVideo,
    *,
    on_spans: OnSpans | None,
) -> list[FineScores | None]:
    """Score the windows of questions to one video, and keep the record.

    Args:
        works: one a question.
        windows: of each question.
        loaded: ``scorer``, and how long it took to load.
        scorer: keeps features of single frames apart (image mode).
        video: for the frames whose features are not stored.
        on_spans: is told of spans as they are found.

    Raises:
        What ``on_spans`` raised, as it is.
    """
    head = works[0]
    asked_for = [sum(len(window) for window in own) for own in windows]
    heard = [
        _Heard(np.zeros(len(work.timeline), dtype=np.int8), Reading(asked_for=n))
        for work, n in zip(works, asked_for, strict=True)
    ]
    stream = None if on_spans is None else SpanStream(works, asked_for, on_spans)
    reader = FeatureReader(head.archive, head.manifest, head.timeline, scorer, video, keep=head.options.features)
    limit: int | None = None
    fetching, opening = 0.0, video.take_seconds()
    started = time.perf_counter()
    try:
        for jobs in _groups(windows):
            rows = reader.fetch(np.unique(np.concatenate([window.rows for _, window in jobs])))
            fetching += rows.seconds
            parts = _parts(jobs, rows, spec_of(scorer), heard, head, stream)
            if not parts:
                continue
            with gens_errors():
                said, limit = score_feature_windows(
                    scorer,
                    parts,
                    [work.question for work in works],
                    limit=limit,
                    listen=None if stream is None else stream.listen,
                )
            for part, reply in said:
                merge(heard[part.question].scores, part.window.rows, reply)
                heard[part.question].replies.append(reply)
    except ListenerError as exc:
        raise exc.error from None
    except VideoError as exc:
        for work, own in zip(works, windows, strict=True):
            no_frames(work, scorer.name, exc, own, time.perf_counter() - started)
        return [None] * len(works)
    except (ModelError, MissingDependencyError) as exc:
        for work, own in zip(works, windows, strict=True):
            given_up(work, "gens", scorer.name, exc, own, time.perf_counter() - started)
        return [None] * len(works)
    scoring = time.perf_counter() - started - fetching
    return _records(works, heard, loaded, limit, fetching=fetching + opening, scoring=scoring)


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


def _records(
    works: Sequence[Work],
    heard: Sequence[_Heard],
    loaded: Loaded,
    limit: int | None,
    *,
    fetching: float,
    scoring: float,
) -> list[FineScores | None]:
    """One record a question. Time that questions took together is shared out among them."""
    spent = [sum(sum(reply.seconds.values()) for reply in one.replies) for one in heard]
    total = sum(spent)
    found: list[FineScores | None] = []
    for work, one, own in zip(works, heard, spent, strict=True):
        reading = one.reading
        reading.seconds = fetching / len(works)
        together: dict[str, Any] = {"questions_together": len(works)} if len(works) > 1 else {}
        encoded = reading.frames - reading.from_store
        record_frames(work, reading, details={"from_store": reading.from_store, "encoded": encoded, **together})
        fine = FineScores(scores=one.scores, replies=tuple(one.replies), cut_to=limit)
        seconds = scoring * (own / total if total else 1 / len(works))
        record_scores(work, fine, loaded, frames=reading.frames, seconds=seconds, details=together)
        found.append(fine)
    return found
