"""Windows to learn GenS's replies from: scenes in a row, questions about them, and the right replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from bench.world.questions import ANCHOR_SCORE, ANSWER_SCORE, KINDS, WORDINGS, Kind, possible_questions, word_question
from bench.world.things import Thing
from bench.world.training.bank import FRAMES_PER_SCENE, Bank
from hybrid.errors import InputError
from hybrid.values import IntArray

__all__ = ["Lesson", "TaughtQuestion", "Window", "draw_window", "write_reply"]

_BLACK_SHARE: Final = 0.06
_MOST_TRIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is taught at a time of the training.

    Attributes:
        frames: least and most frames of a window.
        longest: most frames of a scene.
        kinds: share of each kind of question.
        things: least and most kinds of things in a window; fewer come back more often.
        unanswerable: share of questions about what is not in the window.
    """

    frames: tuple[int, int]
    longest: int
    kinds: dict[Kind, float]
    things: tuple[int, int] = (4, 16)
    unanswerable: float = 0.08


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive frames of a window that show one scene."""

    things: tuple[Thing, ...]
    first: int
    last: int


_Asked = tuple[tuple[Thing, ...], list[int], list[int]]
"""Things that a question names, and the numbers of the scenes that answer it and that it starts from."""


@dataclass(frozen=True, slots=True)
class TaughtQuestion:
    """A question and the reply that a perfect GenS gives."""

    kind: Kind
    text: str
    reply: str
    things: tuple[Thing, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Frames and questions about them.

    Attributes:
        features: float32 [N, width].
        shows: per frame, the things that can be seen.
        captions: per frame, its label, what it shows, since which frame, and what was shown before that and when.
        first_label: label of the first frame.
        questions: with their replies.
    """

    features: Tensor
    shows: tuple[tuple[Thing, ...], ...]
    captions: tuple[str, ...]
    first_label: int
    questions: tuple[TaughtQuestion, ...]


def write_reply(scores: IntArray, *, first_label: int = 0) -> str:
    """GenS's JSON for scores of the frames of a window: best score first, then in order of time.

    Args:
        scores: int64 [N]; 0 for what is not listed.
        first_label: label of the first frame.
    """
    entries = []
    for score in sorted({int(score) for score in scores if score > 0}, reverse=True):
        marked = np.concatenate([[False], scores == score, [False]])
        edges = np.flatnonzero(marked[1:] != marked[:-1]) + first_label
        for start, end in zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True):
            entries.append(f'"{start}": {score}' if start == end else f'"{start}-{end}": {score}')
    return "{" + ", ".join(entries) + "}"


def draw_window(
    rng: np.random.Generator, bank: Bank, lesson: Lesson, *, frames: int, questions: int, about: Thing | None = None
) -> Window:
    """Draw a window and questions about it.

    Args:
        rng: all draws come from it.
        bank: where its frames are from.
        lesson: what to draw.
        frames: how many.
        questions: how many.
        about: if given, a thing that the window shows.

    Raises:
        InputError: the bank is too small for the lesson.
    """
    known = bank.known
    most = int(rng.integers(lesson.things[0], lesson.things[1] + 1))
    chosen = [known[i] for i in rng.permutation(len(known))[:most]]
    if about is not None and about not in chosen:
        chosen[0] = about
    rows, runs = _draw_runs(rng, bank, lesson, chosen, frames)
    label = int(rng.integers(0, 256 - frames + 1)) if rng.random() < 0.5 else 0
    taught = _draw_questions(rng, lesson, runs, known, frames, label, questions)
    shows: list[tuple[Thing, ...]] = [()] * frames
    for run in runs:
        shows[run.first : run.last + 1] = [run.things] * (run.last + 1 - run.first)
    return Window(torch.stack(rows), tuple(shows), tuple(_captions(runs, frames, label)), label, tuple(taught))


def _captions(runs: list[_Run], frames: int, label: int) -> list[str]:
    captions = [f" {label + frame} nothing." for frame in range(frames)]
    before = "nothing"
    for run in runs:
        first, last = run.first + label, run.last + label
        shown = ", ".join(map(str, run.things))
        for frame in range(run.first, run.last + 1):
            captions[frame] = f" {label + frame} {shown} since {first} after {before}."
        before = f"{shown} {first}-{last}"
    return captions


def _draw_runs(
    rng: np.random.Generator, bank: Bank, lesson: Lesson, chosen: list[Thing], frames: int
) -> tuple[list[Tensor], list[_Run]]:
    rows: list[Tensor] = []
    runs: list[_Run] = []
    before: tuple[Thing, ...] = ()
    while len(rows) < frames:
        if rows and rng.random() < _BLACK_SHARE:
            rows.append(bank.black[int(rng.integers(len(bank.black)))])
            continue
        things = _draw_scene(rng, bank, [thing for thing in chosen if thing not in before])
        length = min(int(rng.integers(1, lesson.longest + 1)), frames - len(rows))
        scenes = bank.by_things[things]
        start = int(rng.integers(0, FRAMES_PER_SCENE - length + 1))
        scene = bank.features[scenes[int(rng.integers(len(scenes)))]]
        runs.append(_Run(things, len(rows), len(rows) + length - 1))
        rows += list(scene[start : start + length])
        before = things
    return rows, runs


def _draw_scene(rng: np.random.Generator, bank: Bank, known: Sequence[Thing]) -> tuple[Thing, ...]:
    """One or two of the things, in an order that the bank has.

    Raises:
        InputError: in thousands of tries the bank had none.
    """
    for _ in range(_MOST_TRIES):
        count = min(len(known), 2 if rng.random() < 0.5 else 1)
        things = tuple(known[i] for i in rng.permutation(len(known))[:count])
        if things in bank.by_things:
            return things
    raise InputError(
        f"in {_MOST_TRIES} tries no scene was found, in a bank of {len(bank.features)}, that shows nothing but "
        f"{', '.join(map(str, known)) or 'nothing'}; draw a larger bank (--scenes)"
    )


def _draw_questions(
    rng: np.random.Generator,
    lesson: Lesson,
    runs: list[_Run],
    known: Sequence[Thing],
    frames: int,
    label: int,
    count: int,
) -> list[TaughtQuestion]:
    by_kind: dict[Kind, list[_Asked]] = {kind: [] for kind in KINDS}
    for kind, things, answers, anchors in possible_questions(runs):
        by_kind[kind].append((things, answers, anchors))
    _add_edges(by_kind, runs)
    kinds = [kind for kind, share in lesson.kinds.items() if share > 0]
    shares = np.array([lesson.kinds[kind] for kind in kinds])
    taught: list[TaughtQuestion] = []
    for kind_number in rng.choice(len(kinds), size=count, p=shares / shares.sum()):
        kind = kinds[int(kind_number)]
        possible = by_kind[kind]
        if not possible or rng.random() < lesson.unanswerable:
            things, answers, anchors = _draw_absent(rng, runs, known, kind), [], []
        else:
            things, answers, anchors = possible[int(rng.integers(len(possible)))]
        scores = np.zeros(frames, dtype=np.int64)
        for value, numbers in ((ANCHOR_SCORE, anchors), (ANSWER_SCORE, answers)):
            for number in numbers:
                scores[runs[number].first : runs[number].last + 1] = value
        text = word_question(kind, things, int(rng.integers(len(WORDINGS[kind]))))
        taught.append(TaughtQuestion(kind, text, write_reply(scores, first_label=label), things))
    return taught


def _add_edges(by_kind: dict[Kind, list[_Asked]], runs: list[_Run]) -> None:
    """What a video does not leave in doubt but a window of it may: its edges, and things seen once in it."""
    once = [(things, numbers) for things, numbers, _ in by_kind["object"] if len(numbers) == 1]
    for things, numbers in once:
        by_kind["first"].append((things, numbers, []))
        by_kind["last"].append((things, numbers, []))
        if numbers[0] == len(runs) - 1:
            by_kind["after"].append((things, [], numbers))
        if numbers[0] == 0:
            by_kind["before"].append((things, [], numbers))


def _draw_absent(rng: np.random.Generator, runs: list[_Run], known: Sequence[Thing], kind: Kind) -> tuple[Thing, ...]:
    """Things that the window does not show; for a relation, at times a pair the other way round.

    Raises:
        InputError: it shows all there are.
    """
    shown = {thing for run in runs for thing in run.things}
    if kind == "relation":
        pairs = {run.things for run in runs if len(run.things) == 2}
        swapped = sorted({(b, a) for a, b in pairs} - pairs)
        if swapped and rng.random() < 0.7:
            return swapped[int(rng.integers(len(swapped)))]
        for _ in range(_MOST_TRIES):
            first, second = (known[i] for i in rng.permutation(len(known))[:2])
            if (first, second) not in pairs:
                return first, second
    absent = [thing for thing in known if thing not in shown]
    if kind == "relation" or not absent:
        raise InputError(
            f"the window shows all that the bank knows ({len(known)} things), and nothing is left to ask for in vain; "
            "draw a larger bank (--scenes)"
        )
    return (absent[int(rng.integers(len(absent)))],)
