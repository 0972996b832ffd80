"""Answer questions about one indexed video: coarse search, fine stage, selection.

Every step leaves a :class:`~hybrid.answers.Stage` record. When the fine stage cannot run, or says
nothing that can be used, the answer is made of the coarse stage's frames and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from hybrid.answers import Answer, AnswerFrame, Span, Stage
from hybrid.clip.encoder import FrameEncoder
from hybrid.coarse.context import window_with_context
from hybrid.coarse.search import window_of_hits
from hybrid.coarse.segments import best_segments, cut_segments
from hybrid.engine.ask.fine import run_fine
from hybrid.engine.ask.scoring import run_scorer, scores_together
from hybrid.engine.ask.selection import Chosen, choose_rows
from hybrid.engine.ask.spans import gens_spans, spans_of
from hybrid.engine.ask.streaming import OnSpans
from hybrid.engine.models import Models
from hybrid.engine.work import Work
from hybrid.fine.windows import FineScores, consecutive_windows
from hybrid.options.ask import AskOptions
from hybrid.selectors.best_first import best_first
from hybrid.selectors.registry import SELECTORS
from hybrid.selectors.spec import SelectorSpec
from hybrid.values import Float32Array, FloatArray, Hits, IntArray, Timeline, Window, check_questions

__all__ = ["answer_questions"]


def answer_questions(
    works: Sequence[Work],
    models: Models,
    *,
    on_answer: Callable[[int, Answer], None] | None = None,
    on_spans: OnSpans | None = None,
) -> list[Answer]:
    """Answer questions to one video; GenS is asked all of them together.

    Args:
        works: one a question, all of one video and with the same options.
        models: what answers them.
        on_answer: is given each answer with the place of its question, as soon as GenS is finished with it.
        on_spans: is told of spans as GenS finds them.

    Raises:
        InputError: a question is not legal.
        StageFailedError: ``strict``, and a stage did not do what it was asked to.
        ModelError: the encoder cannot be loaded or runs out of memory.
        IndexDamagedError: the index cannot be read.
        What ``on_answer`` or ``on_spans`` raised, as it is.
    """
    check_questions([work.question for work in works])
    if not works:
        return []
    options = works[0].options
    hits = [_search(work, models.encoder) if options.coarse else None for work in works]
    named: list[FloatArray | None] = [None] * len(works)
    if scores_together(options):  # before GenS, so that an answer lacks nothing when GenS is finished with it
        named = run_scorer(works, models.video_scorer)
    answers: dict[int, Answer] = {}

    def answer(place: int, heard: FineScores | None) -> None:
        answers[place] = _answer(works[place], hits[place], heard, named[place], models)
        if on_answer is not None:
            on_answer(place, answers[place])

    if options.fine:
        windows = [_windows(*pair) for pair in zip(works, hits, strict=True)]
        run_fine(works, windows, models.scorer, models.sampler_name, on_fine=answer, on_spans=on_spans)
    else:
        for place, work in enumerate(works):
            work.record(Stage(name="gens", ran=False, seconds=0.0, notes=("not asked for",)))
            answer(place, None)
    return [answers[place] for place in range(len(works))]


def _windows(work: Work, hits: Hits | None) -> list[Window]:
    """The frames that GenS reads together, for one question."""
    options = work.options
    if hits is None:
        return consecutive_windows(work.timeline.distinct_rows(), options.window)
    if options.window_mode == "scattered":
        return [window_of_hits(hits, options.window)]
    if options.window_mode == "context":
        return [_window_with_context(work, hits)]
    segments = cut_segments(work.timeline.distinct_rows(), options.window)
    return best_segments(segments, hits, options.segments)


def _window_with_context(work: Work, hits: Hits) -> Window:
    rows = work.timeline.distinct_rows()
    reach = work.options.context_seconds
    if reach > 0:
        # Frames lie a little beside the grid (29.97 a second): the last one within reach must not fall out by that.
        reach += 0.5 / work.timeline.sampling.rate
    times = work.timeline.pts_seconds[rows]
    return window_with_context(hits, rows, times, size=work.options.window, context_seconds=reach)


def _answer(
    work: Work, hits: Hits | None, heard: FineScores | None, named: FloatArray | None, models: Models
) -> Answer:
    fine = heard if heard is not None and heard.scores.any() else None
    if fine is None and hits is None:
        hits = _search(work, models.encoder)
    nothing = heard is not None and heard.found_nothing
    rows, spans = _select(work, hits, fine, named, models, nothing=nothing)
    return Answer(
        question=work.question,
        video=str(work.path),
        video_id=work.manifest.video_id,
        duration_seconds=work.timeline.duration_seconds,
        spans=spans,
        frames=_answer_frames(work.timeline, rows, hits, fine),
        stages=tuple(work.stages),
        reply="\n".join(reply.text for reply in heard.replies) if heard is not None else None,
    )


def _select(
    work: Work, hits: Hits | None, fine: FineScores | None, named: FloatArray | None, models: Models, *, nothing: bool
) -> tuple[IntArray, tuple[Span, ...]]:
    """The rows of the answer's frames, and its spans: from GenS's scores, or from CLIP's if there are none.

    ``nothing``: GenS said that no frame answers; CLIP's spans would say the contrary.
    """
    started = time.perf_counter()
    if work.options.select is not None:
        chosen = choose_rows(work, work.options.select, fine, hits, models, named)
    elif fine is not None:
        chosen = Chosen(best_first(fine.scores, work.options.frames), "gens")
    else:
        assert hits is not None  # where GenS has nothing to say, the coarse stage was asked
        chosen = Chosen(window_of_hits(hits, work.options.frames).rows, "clip")
    spans: tuple[Span, ...] = ()
    if not nothing:
        spans = gens_spans(work, fine.scores) if fine is not None else _coarse_spans(work, hits, chosen.rows)
    seconds = time.perf_counter() - started - chosen.scoring_seconds
    work.record(_select_stage(fine, hits, chosen, spans, work.options, seconds))
    return chosen.rows, spans


def _search(work: Work, load: Callable[[], FrameEncoder]) -> Hits:
    asked = time.perf_counter()
    encoder = load()
    started = time.perf_counter()
    text = encoder.encode_text(work.question)
    encoded = time.perf_counter()
    options = work.options
    in_segments = options.fine and options.window_mode == "segments"
    # A segment is judged by all its frames, what lies around a frame may be any, and a selector chooses from all.
    every = (options.fine and options.window_mode != "scattered") or options.select is not None
    top = len(work.timeline) if every else max(options.window, options.frames)
    hits = _search_distinct(work, text.vector, top)
    ended = time.perf_counter()
    passed_on = options.window * (options.segments if in_segments else 1)
    work.record(
        Stage(
            name="coarse",
            ran=True,
            seconds=ended - started,
            model=encoder.name,
            device=encoder.device,
            candidates_in=len(work.timeline),
            candidates_out=min(len(hits), passed_on),
            notes=(text.note,) if text.note else (),
            details={
                "load_seconds": started - asked,
                "encode_seconds": encoded - started,
                "search_seconds": ended - encoded,
                "window_mode": options.window_mode,
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


def _coarse_spans(work: Work, hits: Hits | None, rows: IntArray) -> tuple[Span, ...]:
    """Spans of the chosen frames, with their similarities as scores."""
    similarities = np.zeros(len(work.timeline))
    if hits is not None:
        similarities[hits.rows] = hits.similarities
    scores = np.full(len(work.timeline), -np.inf)
    scores[rows] = similarities[rows]
    # No cosine lies below -1: every chosen frame belongs to a span.
    return spans_of(work, scores, -2.0, "clip")


def _answer_frames(
    timeline: Timeline, rows: IntArray, hits: Hits | None, fine: FineScores | None
) -> tuple[AnswerFrame, ...]:
    similarity: dict[int, float] = {}
    if hits is not None:
        similarity = dict(zip(hits.rows.tolist(), hits.similarities.tolist(), strict=True))
    return tuple(
        AnswerFrame.of_row(
            timeline,
            int(row),
            clip_similarity=similarity.get(int(row)),
            gens_score=int(fine.scores[row]) if fine is not None else None,
        )
        for row in rows
    )


def _select_stage(
    fine: FineScores | None,
    hits: Hits | None,
    chosen: Chosen,
    spans: tuple[Span, ...],
    options: AskOptions,
    seconds: float,
) -> Stage:
    own = "best_first" if fine is not None else "top_k"
    selector = options.select or SelectorSpec(own, SELECTORS.find(own))
    rule = selector.record(seed=options.seed)
    notes: tuple[str, ...] = ()
    if fine is not None and not spans:
        notes = (f"no frame scored {options.min_score} or more (best: {int(fine.scores.max())}), so there is no span",)
    return Stage(
        name="select",
        ran=True,
        seconds=seconds,
        model=rule["selector"],
        device="cpu",
        candidates_in=int(np.count_nonzero(fine.scores)) if fine is not None else len(hits or ()),
        candidates_out=len(chosen.rows),
        notes=notes,
        details={
            "spans": len(spans),
            "scores": chosen.went_by,
            **rule,
            **({"prompts": list(chosen.prompts)} if chosen.prompts else {}),
        },
    )
