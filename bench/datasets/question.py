"""One question about one video, whatever data set it comes from, and subsets of many."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybrid.errors import InputError

__all__ = ["Question", "check_ids", "needed_videos", "subset", "with_videos"]


@dataclass(frozen=True, slots=True)
class Question:
    """What a benchmark asks, and what is known of the answer.

    Attributes:
        id: unlike that of any other question of the data set.
        video: name of the video's file, relative to the folder of videos.
        question: as it is asked, without the options.
        options: what can be answered, without letters; empty for a free answer.
        answer: place of the right option; None if it is not published, or the answer is free.
        reference: the free answer of the annotators, if there is one.
        duration_seconds: length of the video, as far as the annotation says it.
        moments_seconds: when the evidence is shown, if annotated.
        spans_seconds: from when to when the evidence is shown, if annotated so.
        until_seconds: what is shown from then on must not be seen, as the question asks for it; None if all may.
        labels: the data set's own groups (``duration_group``, ``category`` ...), as text.
    """

    id: str
    video: str
    question: str
    options: tuple[str, ...] = ()
    answer: int | None = None
    reference: str | None = None
    duration_seconds: float | None = None
    moments_seconds: tuple[float, ...] = ()
    spans_seconds: tuple[tuple[float, float], ...] = ()
    until_seconds: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.answer is not None and not 0 <= self.answer < len(self.options):
            raise InputError(f"question {self.id}: the answer is option {self.answer} of {len(self.options)}")


def check_ids(questions: Iterable[Question]) -> None:
    """Refuse questions that samples could not be told apart by.

    Raises:
        InputError: two of them have the same id.
    """
    seen: dict[str, Question] = {}
    for question in questions:
        before = seen.setdefault(question.id, question)
        if before is not question:
            raise InputError(
                f"two questions have the id {question.id!r}: {before.question!r} about {before.video} and "
                f"{question.question!r} about {question.video}; each needs an id of its own"
            )


def subset(
    questions: Sequence[Question],
    *,
    labels: Mapping[str, Iterable[str]] | None = None,
    limit: int | None = None,
    seed: int | None = None,
) -> list[Question]:
    """Some of the questions, in their order.

    Args:
        questions: of one data set.
        labels: for each label the values that are kept, as ``{"duration_group": ["600", "3600"]}``.
        limit: at most so many.
        seed: with a limit, draw them at random; without one, the first are taken.

    Raises:
        InputError: a label that no question has, a value that none has, or a limit below 1.
    """
    chosen = list(questions)
    for label, values in (labels or {}).items():
        requested, known = set(values), {q.labels[label] for q in questions if label in q.labels}
        unknown = sorted(requested - known)
        if unknown:
            legal = ", ".join(sorted(known)) or f"nothing: the labels are {', '.join(_label_names(questions))}"
            raise InputError(f"no question has {label}={unknown[0]}; legal are {legal}")
        chosen = [q for q in chosen if q.labels.get(label) in requested]
    if limit is None or limit >= len(chosen):
        return chosen
    if limit < 1:
        raise InputError(f"limit is {limit}; it must be at least 1")
    if seed is None:
        return chosen[:limit]
    indices = sorted(random.Random(seed).sample(range(len(chosen)), limit))
    return [chosen[index] for index in indices]


def needed_videos(questions: Iterable[Question]) -> list[str]:
    """Names of the videos that the questions are about, each once, in order of first use."""
    return list(dict.fromkeys(question.video for question in questions))


def with_videos(questions: Sequence[Question], folder: Path) -> tuple[list[Question], list[str]]:
    """The questions whose video lies in a folder, and the names of the videos that do not."""
    missing = [video for video in needed_videos(questions) if not (folder / video).is_file()]
    lacking = set(missing)
    return [question for question in questions if question.video not in lacking], missing


def _label_names(questions: Iterable[Question]) -> list[str]:
    return sorted({name for question in questions for name in question.labels})
