"""Answer one question about one indexed video: coarse search, fine stage, selection.

Every step leaves a :class:`~hybrid.values.Stage` record. When the fine stage cannot run, or says
nothing that can be used, the answer is made of the coarse stage's frames and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.clip.encoder import FrameEncoder
from hybrid.coarse.search import window_of_hits
from hybrid.engine.settings import file_decoder
from hybrid.errors import (
    InputError,
    MissingDependencyError,
    ModelError,
    StageFailedError,
    VideoError,
    VideoOpenError,
)
from hybrid.frames.source import FrameSource, open_source
from hybrid.gens.scorer import FrameScorer
from hybrid.gens.windows import FineScores, consecutive_windows, score_windows
from hybrid.selectors.best_first import best_first
from hybrid.spans import DEFAULT_GAP_SAMPLES, DEFAULT_MIN_SCORE, spans_of_scores
from hybrid.values import (
    DEFAULT_FRAMES,
    DEFAULT_WINDOW,
    Answer,
    AnswerFrame,
    ByteArray,
    Float32Array,
    Hits,
    IntArray,
    Scorer,
    Span,
    Stage,
    Timeline,
    Window,
)
from indexes.archive import Archive
from indexes.manifest import Manifest

__all__ = ["AskOptions", "answer_question"]


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How a question is answered.

    Attributes:
        frames: how many frames to select at most.
        window: how many frames GenS reads at once, and how many the coarse stage passes on.
        coarse: False: GenS reads the whole video in consecutive windows.
        fine: False: no GenS; the most similar frames are the answer.
        strict: a stage that cannot do what it was asked to is an error.
        min_score: least GenS score of a frame that belongs to a span.
        gap_seconds: how far apart two stretches may lie and still be one span; by default one
            sample between them may be without a score.
    """

    frames: int = DEFAULT_FRAMES
    window: int = DEFAULT_WINDOW
    coarse: bool = True
    fine: bool = True
    strict: bool = False
    min_score: int = DEFAULT_MIN_SCORE
    gap_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InputError(f"frames is {self.frames}; it must be at least 1")
        if self.window < 1:
            raise InputError(f"window is {self.window}; it must be at least 1 frame")
        if not 1 <= self.min_score <= 5:
            raise InputError(f"min_score is {self.min_score}; GenS scores are 1 to 5")
        if self.gap_seconds is not None and not self.gap_seconds >= 0:
            raise InputError(f"gap_seconds is {self.gap_seconds}; it must be 0 or more")
        if not self.coarse and not self.fine:
            raise InputError("neither the coarse nor the fine stage is asked for; leave out --no-coarse or --no-fine")


@dataclass(slots=True)
class _Work:
    """One question under way."""

    archive: Archive
    manifest: Manifest
    timeline: Timeline
    path: Path
    question: str
    options: AskOptions
    gone: str | None
    stages: list[Stage] = field(default_factory=list)

    def gave_up(self, stage: Stage) -> None:
        """Record a stage that did not do what it was asked to; an error if the caller is strict."""
        self.stages.append(stage)
        if self.options.strict:
            raise StageFailedError(f"strict: the stage {stage.name!r} failed: {stage.fallback_reason}")


def answer_question(
    archive: Archive,
    manifest: Manifest,
    path: Path,
    question: str,
    options: AskOptions,
    *,
    encoder: Callable[[], FrameEncoder],
    scorer: Callable[[], FrameScorer],
    sampler_name: str,
    gone: str | None = None,
    stages: Sequence[Stage] = (),
) -> Answer:
    """Answer a question from a video's index.

    Args:
        archive: where the index lies.
        manifest: of the video's index.
        path: where the video lies now; the fine stage reads frames from it.
        question: plain text.
        options: see there.
        encoder: gives the encoder of the index; is called if the coarse stage runs.
        scorer: gives GenS; is called if the fine stage runs.
        sampler_name: its name, for the record where it cannot be loaded.
        gone: why the video cannot be read any more, if it cannot.
        stages: what was done before.

    Raises:
        InputError: an empty question.
        StageFailedError: ``strict``, and a stage did not do what it was asked to.
        ModelError: the encoder cannot be loaded or runs out of memory.
        IndexDamagedError: the index cannot be read.
    """
    if not question.strip():
        raise InputError("the question is empty; ask for something that can be seen in the video")
    timeline = archive.timeline(manifest)
    work = _Work(archive, manifest, timeline, path, question, options, gone, list(stages))
    hits = _search(work, encoder) if options.coarse else None
    heard = _run_fine(work, hits, scorer, sampler_name) if options.fine else None
    if not options.fine:
        work.stages.append(Stage(name="gens", ran=False, seconds=0.0, notes=("not asked for",)))
    started = time.perf_counter()
    fine = heard if heard is not None and heard.scores.any() else None
    if fine is not None:
        rows, spans = best_first(fine.scores, options.frames), _spans(work, fine.scores, options.min_score, "gens")
    else:
        hits = hits if hits is not None else _search(work, encoder)
        rows, spans = _coarse_choice(work, hits)
    frames = _answer_frames(timeline, rows, hits, fine)
    work.stages.append(_select_stage(fine, hits, frames, spans, options, time.perf_counter() - started))
    return Answer(
        question=question,
        video=str(path),
        video_id=manifest.video_id,
        duration_seconds=timeline.duration_seconds,
        spans=spans,
        frames=frames,
        stages=tuple(work.stages),
        reply="\n".join(reply.text for reply in heard.replies) if heard is not None else None,
    )


def _search(work: _Work, load: Callable[[], FrameEncoder]) -> Hits:
    asked = time.perf_counter()
    encoder = load()
    started = time.perf_counter()
    text = encoder.encode_text(work.question)
    encoded = time.perf_counter()
    hits = _search_distinct(work, text.vector, max(work.options.window, work.options.frames))
    ended = time.perf_counter()
    work.stages.append(
        Stage(
            name="coarse",
            ran=True,
            seconds=ended - started,
            model=encoder.name,
            device=encoder.device,
            candidates_in=len(work.timeline),
            candidates_out=min(len(hits), work.options.window),
            notes=(text.note,) if text.note else (),
            details={
                "load_seconds": started - asked,
                "encode_seconds": encoded - started,
                "search_seconds": ended - encoded,
                "identity": dict(encoder.identity),
            },
        )
    )
    return hits


def _search_distinct(work: _Work, query: Float32Array, top: int) -> Hits:
    """The best frames, each once: one that is held for a minute must not fill the window with itself."""
    distinct = work.timeline.distinct_rows()
    if len(distinct) == len(work.timeline):
        return work.archive.search(work.manifest, query, top)
    hits = work.archive.search(work.manifest, query, len(work.timeline))
    first = np.isin(hits.rows, distinct)
    return Hits(rows=hits.rows[first][:top], similarities=hits.similarities[first][:top])


def _run_fine(
    work: _Work, hits: Hits | None, scorer: Callable[[], FrameScorer], sampler_name: str
) -> FineScores | None:
    """Frames, GenS, and their records; None if GenS could not run, with the reason on record."""
    size = work.options.window
    if hits is not None:
        windows = [window_of_hits(hits, size)]
    else:
        windows = consecutive_windows(work.timeline.distinct_rows(), size)
    reading = _Reading(asked_for=sum(len(window) for window in windows))
    started = time.perf_counter()
    try:
        if work.gone is not None:
            raise VideoOpenError(work.gone)
        # Opened before the model is loaded: a video that cannot be read need not wait for that.
        with (
            open_source(work.path, work.timeline.sampling, decoder=file_decoder(work.manifest.config)) as source,
            _gens_errors(),
        ):
            opened = time.perf_counter()
            model = scorer()
            loaded = time.perf_counter()
            frames = _frames_of(work.timeline, source, windows, model.prepare, reading)
            fine = score_windows(model, frames, work.question, rows=len(work.timeline))
            ended = time.perf_counter()
    except VideoError as exc:
        _no_frames(work, exc, reading, sampler_name, time.perf_counter() - started)
        return None
    except (ModelError, MissingDependencyError) as exc:
        _no_gens(work, exc, reading, sampler_name, time.perf_counter() - started)
        return None
    seconds = ended - loaded - reading.seconds
    reading.seconds += opened - started
    _record_reading(work, reading)
    _record_scores(work, fine, model, reading, seconds=seconds, load_seconds=loaded - opened)
    return fine


@contextmanager
def _gens_errors() -> Iterator[None]:
    """Whatever else a model library raises must not cost the caller the coarse answer."""
    try:
        yield
    except RuntimeError as exc:
        reason = (str(exc).splitlines() or [""])[0][:300]
        raise ModelError(f"the sampler failed: {type(exc).__name__}: {reason}") from exc


def _no_frames(work: _Work, exc: VideoError, reading: _Reading, sampler_name: str, seconds: float) -> None:
    work.gave_up(
        Stage(
            name="frames",
            ran=False,
            seconds=seconds,
            model=work.manifest.config.decoder,
            candidates_in=reading.asked_for,
            fallback_reason=f"{exc}; the most similar frames are given instead",
        )
    )
    note = "there were no frames to read"
    work.stages.append(Stage(name="gens", ran=False, seconds=0.0, model=sampler_name, notes=(note,)))


def _no_gens(work: _Work, exc: Exception, reading: _Reading, sampler_name: str, seconds: float) -> None:
    work.gave_up(
        Stage(
            name="gens",
            ran=False,
            seconds=seconds,
            model=sampler_name,
            candidates_in=reading.asked_for,
            fallback_reason=f"{exc}; the most similar frames are given instead",
        )
    )


@dataclass(slots=True)
class _Reading:
    """What reading the windows' frames took and could not get."""

    asked_for: int
    seconds: float = 0.0
    frames: int = 0
    missing: list[int] = field(default_factory=list)
    frames_decoded: int = 0


def _frames_of(
    timeline: Timeline,
    source: FrameSource,
    windows: Sequence[Window],
    prepare: Callable[[ByteArray], ByteArray],
    reading: _Reading,
) -> Iterator[tuple[Window, list[ByteArray]]]:
    """Each window with its frames, each brought to the size that the model sees as it is decoded.

    A frame that cannot be decoded now is taken out of its window, so that position and row stay
    together.
    """
    wanted = timeline.ordinals[np.concatenate([window.rows for window in windows])]
    started = time.perf_counter()
    images = _Ahead(
        (int(batch.ordinals[i]), prepare(batch.rgb[i]))
        for batch in source.read(ordinals=[int(ordinal) for ordinal in wanted])
        for i in range(len(batch))
    )
    for window in windows:
        kept: list[int] = []
        frames: list[ByteArray] = []
        for row in window.rows:
            image = images.take(int(timeline.ordinals[row]))
            if image is None:
                reading.missing.append(int(timeline.ordinals[row]))
            else:
                kept.append(int(row))
                frames.append(image)
        reading.frames += len(frames)
        reading.seconds += time.perf_counter() - started
        if frames:
            yield _only(window, kept), frames
        started = time.perf_counter()
    images.exhaust()
    reading.frames_decoded = source.report().frames_decoded
    reading.seconds += time.perf_counter() - started


class _Ahead:
    """Images in order of ordinals, taken one by one; a missing one is noticed by its successor."""

    def __init__(self, images: Iterator[tuple[int, ByteArray]]) -> None:
        self._images = images
        self._next = next(images, None)

    def take(self, ordinal: int) -> ByteArray | None:
        if self._next is None or self._next[0] != ordinal:
            return None
        image = self._next[1]
        self._next = next(self._images, None)
        return image

    def exhaust(self) -> None:
        for _ in self._images:
            pass


def _only(window: Window, rows: list[int]) -> Window:
    if len(rows) == len(window):
        return window
    keep = np.isin(window.rows, rows)
    similarities = None if window.similarities is None else window.similarities[keep]
    return Window(rows=window.rows[keep], similarities=similarities)


def _record_reading(work: _Work, reading: _Reading) -> None:
    reason = None
    if reading.missing:
        reason = f"{len(reading.missing)} frames of the index cannot be decoded from {work.path} now"
    stage = Stage(
        name="frames",
        ran=True,
        seconds=reading.seconds,
        model=work.manifest.config.decoder,
        device="cpu",
        candidates_in=reading.asked_for,
        candidates_out=reading.frames,
        fallback_reason=reason,
        details={"frames_decoded": reading.frames_decoded},
    )
    if reason:
        work.gave_up(stage)
    else:
        work.stages.append(stage)


def _record_scores(
    work: _Work, fine: FineScores, model: FrameScorer, reading: _Reading, *, seconds: float, load_seconds: float
) -> None:
    scored = int(np.count_nonzero(fine.scores))
    reasons: list[str] = []
    if fine.cut_to is not None:
        reasons.append(f"out of memory on {model.device}; windows were cut to {fine.cut_to} frames")
    mute = [place for place, reply in enumerate(fine.replies, start=1) if reply.status == "empty" and reply.notes]
    if mute and scored:
        reasons.append(f"{len(mute)} of {len(fine.replies)} windows gave no usable reply: {mute[:20]}")
    if scored == 0:
        reasons.append("the reply holds no scores; the most similar frames are given instead")
    parts: dict[str, float] = {}
    for reply in fine.replies:
        for part, part_seconds in reply.seconds.items():
            parts[part] = parts.get(part, 0.0) + part_seconds
    stage = Stage(
        name="gens",
        ran=scored > 0,
        seconds=seconds,
        model=model.name,
        device=model.device,
        candidates_in=reading.frames,
        candidates_out=scored,
        fallback_reason="; ".join(reasons) or None,
        notes=tuple(
            f"window {place}: {note}" if len(fine.replies) > 1 else note
            for place, reply in enumerate(fine.replies, start=1)
            for note in reply.notes
        ),
        details={
            "windows": len(fine.replies),
            "reply_status": [reply.status for reply in fine.replies],
            "prompt_tokens": sum(reply.prompt_tokens for reply in fine.replies),
            "new_tokens": sum(reply.new_tokens for reply in fine.replies),
            "seconds": parts,
            "load_seconds": load_seconds,
            "identity": dict(model.identity),
        },
    )
    if reasons:
        work.gave_up(stage)
    else:
        work.stages.append(stage)


def _spans(work: _Work, scores: npt.NDArray[Any], min_score: float, scorer: Scorer) -> tuple[Span, ...]:
    gap = work.options.gap_seconds
    return spans_of_scores(
        work.timeline,
        scores,
        min_score=min_score,
        gap_samples=DEFAULT_GAP_SAMPLES if gap is None else 0,
        gap_seconds=gap or 0.0,
        scorer=scorer,
    )


def _coarse_choice(work: _Work, hits: Hits) -> tuple[IntArray, tuple[Span, ...]]:
    best = window_of_hits(hits, work.options.frames)
    scores = np.full(len(work.timeline), -np.inf)
    scores[best.rows] = best.similarities
    # No cosine lies below -1: every chosen frame belongs to a span.
    return best.rows, _spans(work, scores, -2.0, "clip")


def _answer_frames(
    timeline: Timeline, rows: IntArray, hits: Hits | None, fine: FineScores | None
) -> tuple[AnswerFrame, ...]:
    similarity: dict[int, float] = {}
    if hits is not None:
        similarity = dict(zip(hits.rows.tolist(), hits.similarities.tolist(), strict=True))
    return tuple(
        AnswerFrame(
            seconds=float(timeline.pts_seconds[row]),
            ordinal=int(timeline.ordinals[row]),
            frame_number=int(timeline.frame_numbers[row]),
            clip_similarity=similarity.get(int(row)),
            gens_score=int(fine.scores[row]) if fine is not None else None,
        )
        for row in rows
    )


def _select_stage(
    fine: FineScores | None,
    hits: Hits | None,
    frames: tuple[AnswerFrame, ...],
    spans: tuple[Span, ...],
    options: AskOptions,
    seconds: float,
) -> Stage:
    notes: tuple[str, ...] = ()
    if fine is not None and not spans:
        notes = (f"no frame scored {options.min_score} or more (best: {int(fine.scores.max())}), so there is no span",)
    return Stage(
        name="select",
        ran=True,
        seconds=seconds,
        model="best_first" if fine is not None else "top_k",
        device="cpu",
        candidates_in=int(np.count_nonzero(fine.scores)) if fine is not None else len(hits or ()),
        candidates_out=len(frames),
        notes=notes,
        details={"spans": len(spans)},
    )
