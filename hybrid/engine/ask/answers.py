"""Answer questions about one indexed video: coarse search, fine stage, selection.

Every step leaves a :class:`~hybrid.answers.Stage` record. When the fine stage cannot run, or its reply cannot be used,
the answer is made of the coarse stage's frames, and its records say so.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from hybrid.answers import Answer, AnswerFrame, Span, Stage
from hybrid.engine.ask.coarse import choose_windows, search_video
from hybrid.engine.ask.context import AskContext
from hybrid.engine.ask.events import Answered, AskEvent, SpansChanged
from hybrid.engine.ask.external_scores import score_frames, scores_together
from hybrid.engine.ask.fine import read_with_model
from hybrid.engine.ask.selection import Chosen, choose_rows
from hybrid.engine.ask.video import ResolvedVideo, found_before
from hybrid.engine.models import Models
from hybrid.fine.windows import FineScores
from hybrid.options.ask import AskOptions
from hybrid.retrieve.windows import window_of_hits
from hybrid.selectors.best_first import best_first
from hybrid.selectors.registry import SELECTORS
from hybrid.selectors.spec import SelectorSpec
from hybrid.values import FloatArray, Hits, IntArray, Timeline

__all__ = ["answer_questions"]

QUESTIONS_AT_ONCE = 64
"""How many questions GenS gets together: twice what it writes at once, so that it seldom waits, and few enough that the
first does not wait long for the coarse stage of the last."""


def answer_questions(
    video: ResolvedVideo, questions: Sequence[str], options: AskOptions, models: Models, *, spans: bool
) -> Generator[AskEvent, None, None]:
    """Answer questions about one video, in groups that GenS gets together.

    Args:
        video: the video.
        questions: plain text, none of them empty.
        options: how they are answered.
        models: what answers them.
        spans: also give :class:`SpansChanged`.

    Yields:
        Events; of each question one :class:`Answered`, as soon as the answer is complete.

    Raises:
        StageFailedError: ``strict``, and a stage could not do what it was asked to.
        ModelError: the encoder cannot be loaded or runs out of memory.
        IndexDamagedError: the index cannot be read.
    """
    # Where no model does anything for several questions together, none has to wait for the others.
    at_once = QUESTIONS_AT_ONCE if options.fine or _scores_together(options) else 1
    for start in range(0, len(questions), at_once):
        group = [AskContext(video, question, options) for question in questions[start : start + at_once]]
        for index, context in enumerate(group, start=start):
            context.record(video.stage if index == 0 else found_before(video.stage))
        for event in _answer_group(group, models, spans=spans):
            yield replace(event, question=start + event.question)


def _scores_together(options: AskOptions) -> bool:
    return options.scores_need_model and scores_together(options)


def _answer_group(contexts: Sequence[AskContext], models: Models, *, spans: bool) -> Generator[AskEvent, None, None]:
    """Answer questions that GenS gets together; events name them by their index in the group."""
    options = contexts[0].options
    hits = [search_video(context, models.encoder) if options.coarse else None for context in contexts]
    external: list[FloatArray | None] = [None] * len(contexts)
    if _scores_together(options):  # before GenS, so that an answer lacks nothing when GenS is finished with it
        external = score_frames(contexts, models.video_scorer)
    if not options.fine:
        for index, context in enumerate(contexts):
            context.record(Stage(name="gens", ran=False, seconds=0.0, notes=("not asked for",)))
            yield Answered(index, _answer(context, hits[index], None, external[index], models))
        return
    windows = [choose_windows(*pair) for pair in zip(contexts, hits, strict=True)]
    for event in read_with_model(contexts, windows, models, spans=spans):
        if isinstance(event, SpansChanged):
            yield event
        else:
            index = event.question
            yield Answered(index, _answer(contexts[index], hits[index], event.scores, external[index], models))


def _answer(
    context: AskContext, hits: Hits | None, read: FineScores | None, external: FloatArray | None, models: Models
) -> Answer:
    fine = read if read is not None and read.scores.any() else None
    if fine is None and hits is None:
        hits = search_video(context, models.encoder)
    nothing = read is not None and read.found_nothing
    rows, spans = _select(context, hits, fine, external, models, nothing=nothing)
    return Answer(
        question=context.question,
        video=str(context.video.path),
        video_id=context.video.manifest.video_id,
        duration_seconds=context.video.timeline.duration_seconds,
        spans=spans,
        frames=_answer_frames(context.video.timeline, rows, hits, fine),
        stages=tuple(context.stages),
        reply="\n".join(reply.text for reply in read.replies) if read is not None else None,
    )


def _select(
    context: AskContext,
    hits: Hits | None,
    fine: FineScores | None,
    external: FloatArray | None,
    models: Models,
    *,
    nothing: bool,
) -> tuple[IntArray, tuple[Span, ...]]:
    """The rows of the answer's frames, and its spans: from GenS's scores, or from CLIP's if there are none.

    ``nothing``: GenS said that no frame answers; CLIP's spans would say the contrary.
    """
    started = time.perf_counter()
    if context.options.select is not None:
        chosen = choose_rows(context, context.options.select, fine, hits, models, external)
    elif fine is not None:
        chosen = Chosen(best_first(fine.scores, context.options.frames), "gens")
    else:
        assert hits is not None  # where GenS has nothing to say, the coarse stage was asked
        chosen = Chosen(window_of_hits(hits, context.options.frames).rows, "clip")
    spans: tuple[Span, ...] = ()
    if not nothing:
        spans = context.spans(fine.scores) if fine is not None else _coarse_spans(context, hits, chosen.rows)
    seconds = time.perf_counter() - started - chosen.scoring_seconds
    context.record(_select_stage(fine, hits, chosen, spans, context.options, seconds))
    return chosen.rows, spans


def _coarse_spans(context: AskContext, hits: Hits | None, rows: IntArray) -> tuple[Span, ...]:
    """Spans of the chosen frames, with their similarities as scores."""
    similarities = np.zeros(len(context.video.timeline))
    if hits is not None:
        similarities[hits.rows] = hits.similarities
    scores = np.full(len(context.video.timeline), -np.inf)
    scores[rows] = similarities[rows]
    # No cosine lies below -1: every chosen frame belongs to a span.
    return context.spans(scores, min_score=-2.0, scorer="clip")


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
