"""Answer one question about one indexed video: coarse search, fine stage, selection.

Every step leaves a :class:`~hybrid.values.Stage` record. When the fine stage cannot run, or says
nothing that can be used, the answer is made of the coarse stage's frames and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.clip.encoder import FrameEncoder
from hybrid.coarse.search import window_of_hits
from hybrid.engine.fine import run_fine
from hybrid.engine.work import AskOptions, Work
from hybrid.errors import InputError
from hybrid.gens.scorer import FrameScorer
from hybrid.gens.windows import FineScores
from hybrid.selectors.best_first import best_first
from hybrid.spans import DEFAULT_GAP_SAMPLES, spans_of_scores
from hybrid.values import Answer, AnswerFrame, Float32Array, Hits, IntArray, Scorer, Span, Stage, Timeline
from indexes.archive import Archive
from indexes.manifest import Manifest

__all__ = ["answer_question"]


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
    work = Work(archive, manifest, timeline, path, question, options, gone, list(stages))
    hits = _search(work, encoder) if options.coarse else None
    heard = run_fine(work, hits, scorer, sampler_name) if options.fine else None
    if not options.fine:
        work.record(Stage(name="gens", ran=False, seconds=0.0, notes=("not asked for",)))
    started = time.perf_counter()
    fine = heard if heard is not None and heard.scores.any() else None
    if fine is not None:
        rows, spans = best_first(fine.scores, options.frames), _spans(work, fine.scores, options.min_score, "gens")
    else:
        hits = hits if hits is not None else _search(work, encoder)
        rows, spans = _coarse_choice(work, hits)
    frames = _answer_frames(timeline, rows, hits, fine)
    work.record(_select_stage(fine, hits, frames, spans, options, time.perf_counter() - started))
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


def _search(work: Work, load: Callable[[], FrameEncoder]) -> Hits:
    asked = time.perf_counter()
    encoder = load()
    started = time.perf_counter()
    text = encoder.encode_text(work.question)
    encoded = time.perf_counter()
    hits = _search_distinct(work, text.vector, max(work.options.window, work.options.frames))
    ended = time.perf_counter()
    work.record(
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


def _search_distinct(work: Work, query: Float32Array, top: int) -> Hits:
    """The best frames, each once: one that is held for a minute must not fill the window with itself."""
    distinct = work.timeline.distinct_rows()
    if len(distinct) == len(work.timeline):
        return work.archive.search(work.manifest, query, top)
    hits = work.archive.search(work.manifest, query, len(work.timeline))
    first = np.isin(hits.rows, distinct)
    return Hits(rows=hits.rows[first][:top], similarities=hits.similarities[first][:top])


def _spans(work: Work, scores: npt.NDArray[Any], min_score: float, scorer: Scorer) -> tuple[Span, ...]:
    gap = work.options.gap_seconds
    return spans_of_scores(
        work.timeline,
        scores,
        min_score=min_score,
        gap_samples=DEFAULT_GAP_SAMPLES if gap is None else 0,
        gap_seconds=gap or 0.0,
        scorer=scorer,
    )


def _coarse_choice(work: Work, hits: Hits) -> tuple[IntArray, tuple[Span, ...]]:
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
