"""Many questions to one video, in groups that are answered together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hybrid.answers import Answer
from hybrid.clip.encoder import FrameEncoder
from hybrid.engine.ask.asking import answer_questions
from hybrid.engine.ask.scoring import scores_together
from hybrid.engine.ask.streaming import OnSpans
from hybrid.engine.checking import check_encoder_name, check_index
from hybrid.engine.models import HeldModels, Models
from hybrid.engine.ready import Ready, found_before
from hybrid.engine.work import Work
from hybrid.options.ask import AskOptions
from indexes.archive.writer import Archive

__all__ = ["answer_in_groups"]

QUESTIONS_AT_ONCE = 64
"""How many questions GenS gets together: twice what it writes at once, so that it seldom waits, and few enough that the
first does not wait long for the coarse stage of the last."""


def answer_in_groups(
    archive: Archive,
    held: HeldModels,
    ready: Ready,
    questions: Sequence[str],
    options: AskOptions,
    *,
    on_answer: Callable[[int, Answer], None] | None,
    on_spans: OnSpans | None,
) -> list[Answer]:
    """Answer questions to one video, in order.

    Args:
        archive: holds its index.
        held: the models that answer.
        ready: the video.
        questions: at least one, none of them empty.
        options: how they are answered.
        on_answer: is given each answer as soon as there is one, with the place of its question.
        on_spans: is told of spans as GenS finds them. What a listener raises ends the asking.

    Raises:
        See :func:`hybrid.engine.ask.asking.answer_questions`; and what a listener raised, as it is.
    """
    timeline = archive.timeline(ready.manifest)
    models = _models(archive, held, ready, options)
    answers: list[Answer] = []
    # Where no model does anything for several questions together, none has to wait for the others.
    at_once = QUESTIONS_AT_ONCE if options.fine or scores_together(options) else 1
    for start in range(0, len(questions), at_once):
        works = [
            Work(archive, ready.manifest, timeline, ready.path, question, options, ready.missing_reason)
            for question in questions[start : start + at_once]
        ]
        for place, work in enumerate(works, start=start):
            work.record(ready.stage if place == 0 else found_before(ready.stage))
        answers += answer_questions(
            works,
            models,
            on_answer=None if on_answer is None else _answers_from(start, on_answer),
            on_spans=None if on_spans is None else _spans_from(start, on_spans),
        )
    return answers


def _models(archive: Archive, held: HeldModels, ready: Ready, options: AskOptions) -> Models:
    """What answers questions to this video; its encoder is refused if it is another than the caller's."""

    def encoder() -> FrameEncoder:
        check_encoder_name(archive.uri, held.settings, held.encoder_name, ready.manifest, ready.path)
        loaded = held.encoder_for(ready.manifest)
        check_index(archive.uri, held.settings, ready.manifest, ready.path, identity=loaded.identity)
        return loaded

    return Models(
        encoder=encoder,
        scorer=held.scorer,
        video_scorer=lambda: held.video_scorer(options.scores_text or ""),
        sampler_name=held.sampler_name,
    )


def _answers_from(start: int, on_answer: Callable[[int, Answer], None]) -> Callable[[int, Answer], None]:
    """The listener of a group of questions, which counts them from the first of all."""
    return lambda place, answer: on_answer(start + place, answer)


def _spans_from(start: int, on_spans: OnSpans) -> OnSpans:
    """Likewise."""
    return lambda update: on_spans(replace(update, question=start + update.question))
