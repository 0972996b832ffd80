"""Questions about a video of the world, with exact answers.

A question whose answer is ambiguous is not asked: what comes right after a thing, for instance, is
asked only of things that appear once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

import numpy as np

from bench.world.scenes import VISIBLE_LEVEL, Scene, World
from bench.world.things import HELD_OUT, Thing
from hybrid.values import FloatArray, IntArray

__all__ = [
    "ANCHOR_SCORE",
    "ANSWER_SCORE",
    "KINDS",
    "WORDINGS",
    "Kind",
    "Question",
    "ShowsThings",
    "ask_questions",
    "choose_questions",
    "possible_questions",
    "word_question",
]

Kind = Literal["object", "relation", "first", "last", "after", "before"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

ANSWER_SCORE: Final = 5
ANCHOR_SCORE: Final = 4

WORDINGS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "object": (
        "When is the {a} visible?",
        "When can the {a} be seen?",
        "Where in the video is the {a}?",
        "Find the {a}.",
        "Which frames show the {a}?",
    ),
    "relation": (
        "When is the {a} to the left of the {b}?",
        "Where is the {a} on the left of the {b}?",
        "Find the {a} left of the {b}.",
        "When is the {b} to the right of the {a}?",
        "Find the {b} right of the {a}.",
    ),
    "first": (
        "When does the {a} appear for the first time?",
        "When is the {a} first seen?",
        "Find the first time that the {a} is visible.",
    ),
    "last": (
        "When does the {a} appear for the last time?",
        "When is the {a} last seen?",
        "Find the last time that the {a} is visible.",
    ),
    "after": (
        "What comes right after the {a}?",
        "What is shown right after the {a}?",
        "What follows directly after the {a}?",
    ),
    "before": (
        "What comes right before the {a}?",
        "What is shown right before the {a}?",
        "What was there directly before the {a}?",
    ),
}
"""``{a}`` and ``{b}`` stand for things; in a relation, ``{a}`` is the left one."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its truth.

    Attributes:
        kind: see :data:`KINDS`.
        text: as it is asked.
        things: what it names; in a relation the left one first.
        answers: scenes that answer it (score 5), in order.
        anchors: scenes that it starts from (score 4).
    """

    kind: Kind
    text: str
    things: tuple[Thing, ...]
    answers: tuple[Scene, ...]
    anchors: tuple[Scene, ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether it names a thing that does not occur in training."""
        return any(thing in HELD_OUT for thing in self.things)

    @property
    def moments(self) -> tuple[tuple[float, float], ...]:
        """(start, end) in seconds of each scene that answers it: the evidence."""
        return tuple((scene.start_seconds, scene.end_seconds) for scene in self.answers)

    def scores_at(self, seconds: FloatArray) -> IntArray:
        """What a perfect GenS gives to frames shown at these times.

        Args:
            seconds: float64 [N].

        Returns:
            int64 [N]: 5 in a scene that answers, 4 in one that it starts from, else 0; 0 as well
            where a fade hides what the scene shows.
        """
        scores = np.zeros(len(seconds), dtype=np.int64)
        for value, scenes in ((ANCHOR_SCORE, self.anchors), (ANSWER_SCORE, self.answers)):
            for scene in scenes:
                for index in np.flatnonzero((seconds >= scene.start_seconds) & (seconds < scene.end_seconds)):
                    if scene.level(float(seconds[index])) >= VISIBLE_LEVEL:
                        scores[index] = value
        return scores


class ShowsThings(Protocol):
    """What is needed of a scene to ask about it."""

    @property
    def things(self) -> tuple[Thing, ...]:
        """What it shows, from left to right."""
        ...


def possible_questions(scenes: Sequence[ShowsThings]) -> Iterator[tuple[Kind, tuple[Thing, ...], list[int], list[int]]]:
    """Every question that these scenes answer without doubt.

    Args:
        scenes: in order; neighbours share no thing.

    Yields:
        Its kind, the things that it names, the numbers of the scenes that answer it, and the numbers
        of those that it starts from.
    """
    appearances: dict[Thing, list[int]] = defaultdict(list)
    pairs: dict[tuple[Thing, ...], list[int]] = defaultdict(list)
    for number, scene in enumerate(scenes):
        for thing in scene.things:
            appearances[thing].append(number)
        if len(scene.things) == 2:
            pairs[scene.things].append(number)
    for thing, numbers in appearances.items():
        yield "object", (thing,), numbers, []
        if len(numbers) > 1:
            yield "first", (thing,), numbers[:1], []
            yield "last", (thing,), numbers[-1:], []
            continue
        (only,) = numbers
        if only + 1 < len(scenes):
            yield "after", (thing,), [only + 1], [only]
        if only > 0:
            yield "before", (thing,), [only - 1], [only]
    for things, numbers in pairs.items():
        yield "relation", things, numbers, []


def ask_questions(world: World, rng: np.random.Generator) -> list[Question]:
    """Every possible question about a video, each in one of its wordings."""
    return [
        Question(
            kind=kind,
            text=word_question(kind, things, int(rng.integers(len(WORDINGS[kind])))),
            things=things,
            answers=tuple(world.scenes[number] for number in answers),
            anchors=tuple(world.scenes[number] for number in anchors),
        )
        for kind, things, answers, anchors in possible_questions(world.scenes)
    ]


def word_question(kind: Kind, things: Sequence[Thing], wording: int) -> str:
    """The text of a question in one of the wordings of its kind."""
    return WORDINGS[kind][wording].format(a=things[0], b=things[-1])


def choose_questions(world: World, *, per_kind: int) -> list[Question]:
    """Some questions about a video, the same number of each kind as far as there are so many.

    Args:
        world: the video; its seed decides the choice.
        per_kind: at most so many of each kind.
    """
    rng = np.random.default_rng([world.seed, 1])
    possible = ask_questions(world, rng)
    chosen: list[Question] = []
    for question_list in _by_kind(possible).values():
        order = rng.permutation(len(question_list))[:per_kind]
        chosen += [question_list[index] for index in sorted(order)]
    return chosen


def _by_kind(questions: Sequence[Question]) -> dict[Kind, list[Question]]:
    by_kind: dict[Kind, list[Question]] = {kind: [] for kind in KINDS}
    for question in questions:
        by_kind[question.kind].append(question)
    return by_kind
