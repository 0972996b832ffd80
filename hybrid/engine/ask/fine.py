"""The fine stage: let GenS score the windows of questions, and keep the record.

A scorer that can be given features gets all questions at once, with features from the store or from
the video (:mod:`hybrid.engine.ask.fine_features`); any other gets frames, question by question. When it
cannot run, the answer is left to the coarse stage, with the reason on record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hybrid.engine.ask.feature_rows import why_not_kept
from hybrid.engine.ask.features import OpenedVideo
from hybrid.engine.ask.fine_features import score_by_features
from hybrid.engine.ask.fine_records import Loaded, given_up, no_frames, record_frames, record_scores
from hybrid.engine.ask.gens_errors import gens_errors
from hybrid.engine.ask.spans import gens_spans
from hybrid.engine.ask.streaming import OnFine, OnSpans, SpanUpdate
from hybrid.engine.ask.window_frames import Reading, frames_of_windows
from hybrid.engine.work import Work
from hybrid.errors import MissingDependencyError, ModelError, VideoError
from hybrid.fine.interface import FeatureScorer, FrameScorer
from hybrid.fine.windows import FineScores, score_windows
from hybrid.values import Window

__all__ = ["run_fine"]


def run_fine(
    works: Sequence[Work],
    windows: Sequence[Sequence[Window]],
    scorer: Callable[[], FrameScorer],
    sampler_name: str,
    *,
    on_fine: OnFine,
    on_spans: OnSpans | None = None,
) -> None:
    """Frames, GenS, and their records, for questions to one video.

    Args:
        works: one a question.
        windows: of each question: disjoint and in time order.
        scorer: gives GenS.
        sampler_name: its name, for the record where it cannot be loaded.
        on_fine: is given what GenS said to each question as soon as all its replies are finished.
        on_spans: is told of spans as they are found.

    Raises:
        What ``on_fine`` or ``on_spans`` raised, as it is.
    """
    head = works[0]
    with OpenedVideo(
        head.path, head.timeline, head.manifest, missing_reason=head.missing_reason, place=head.archive.uri
    ) as video:
        loaded = _load(works, windows, video, scorer, sampler_name)
        if loaded is not None and isinstance(loaded.scorer, FeatureScorer) and why_not_kept(loaded.scorer) is None:
            score_by_features(works, windows, loaded, loaded.scorer, video, on_fine=on_fine, on_spans=on_spans)
            return
        for place, (work, own) in enumerate(zip(works, windows, strict=True)):
            heard = None if loaded is None else _score_by_frames(work, own, loaded, video)
            if on_spans is not None and heard is not None:
                on_spans(SpanUpdate(place, gens_spans(work, heard.scores), finished=True))
            on_fine(place, heard)


def _load(
    works: Sequence[Work],
    windows: Sequence[Sequence[Window]],
    video: OpenedVideo,
    scorer: Callable[[], FrameScorer],
    sampler_name: str,
) -> Loaded | None:
    head = works[0]
    started = time.perf_counter()
    try:
        # Before the model is loaded: a video that cannot be read, and of which nothing is stored, need
        # not wait for that.
        if not (head.options.features and head.archive.feature_lists(head.manifest)):
            video.source()
        with gens_errors():
            loading = time.perf_counter()
            model = scorer()
            return Loaded(model, time.perf_counter() - loading)
    except VideoError as exc:
        for work, own in zip(works, windows, strict=True):
            no_frames(work, sampler_name, exc, own, time.perf_counter() - started)
    except (ModelError, MissingDependencyError) as exc:
        for work, own in zip(works, windows, strict=True):
            given_up(work, "gens", sampler_name, exc, own, time.perf_counter() - started)
    return None


def _score_by_frames(work: Work, windows: Sequence[Window], loaded: Loaded, video: OpenedVideo) -> FineScores | None:
    """One question, from the pixels of its frames."""
    model = loaded.scorer
    reading = Reading(asked_for=sum(len(window) for window in windows))
    if isinstance(model, FeatureScorer) and work.options.features:
        reading.notes.append(f"features are not kept: {why_not_kept(model)}")
    started = time.perf_counter()
    try:
        source = video.source()
        reading_from = time.perf_counter()
        with gens_errors():
            frames = frames_of_windows(work.timeline, source, windows, model.prepare, reading)
            fine = score_windows(model, frames, work.question, rows=len(work.timeline))
    except VideoError as exc:
        no_frames(work, model.name, exc, windows, time.perf_counter() - started)
        return None
    except (ModelError, MissingDependencyError) as exc:
        given_up(work, "gens", model.name, exc, windows, time.perf_counter() - started)
        return None
    seconds = time.perf_counter() - reading_from - reading.seconds
    reading.seconds += video.take_seconds()
    record_frames(work, reading)
    record_scores(work, fine, loaded, frames=reading.frames, seconds=seconds)
    return fine
