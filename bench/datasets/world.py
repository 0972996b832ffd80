"""The world of coloured shapes (``docs/world.md``) as a data set: its videos are filmed here, its truth is exact.

Labels: ``kind`` (object, relation, first, last, after, before), ``moments`` (how many scenes answer: 1, 2, 3+),
``unseen_pair`` (whether it names a thing that does not occur in training). There are no options: the answer is
where to look.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bench.datasets.question import Question
from bench.world.exam import exam_video, prepare_exam
from bench.world.film import film_world
from bench.world.scenes import Split, make_world
from hybrid.errors import InputError

__all__ = ["LABELS", "SPLITS", "load_world", "moments_label"]

LABELS = ("kind", "moments", "unseen_pair")
SPLITS: tuple[Split, ...] = ("validation", "test")
"""The training split is for training."""

_MANY = 3


def load_world(
    folder: Path,
    *,
    split: str = "test",
    videos: int = 20,
    seconds: float = 300.0,
    per_kind: int = 5,
    workers: int | None = None,
) -> list[Question]:
    """Film the videos that are not there yet, and give the questions about them.

    Args:
        folder: where the videos lie.
        split: ``validation`` or ``test``.
        videos: how many, from the first seed of the split.
        seconds: length of each at least; the last scene may end later.
        per_kind: most questions of a kind about a video.
        workers: how many processes film; by default one a core.

    Raises:
        InputError: another split, or no video.
    """
    chosen = next((name for name in SPLITS if name == split), None)
    if chosen is None:
        raise InputError(f"the world has no split {split!r} to measure on; legal are {', '.join(SPLITS)}")
    if videos < 1:
        raise InputError(f"there are {videos} videos asked for; at least 1 is needed")
    _film_missing(folder, chosen, videos, seconds, workers or os.cpu_count() or 1)
    questions: list[Question] = []
    for seed in range(videos):
        exam = prepare_exam(folder, chosen, seed, seconds=seconds, per_kind=per_kind)
        questions += [
            Question(
                id=f"{exam.video.stem}_{number}",
                video=exam.video.name,
                question=question.text,
                duration_seconds=exam.world.duration_seconds,
                spans_seconds=question.moments,
                labels={
                    "kind": question.kind,
                    "moments": moments_label(len(question.moments)),
                    "unseen_pair": "yes" if question.held_out else "no",
                },
            )
            for number, question in enumerate(exam.questions)
        ]
    return questions


def _film_missing(folder: Path, split: Split, videos: int, seconds: float, workers: int) -> None:
    """Film side by side what is not there yet: drawing 300 s takes half a minute of one core."""
    worlds = [make_world(split, seed, seconds=seconds) for seed in range(videos)]
    missing = [(world, path) for world in worlds if not (path := exam_video(folder, world, seconds=seconds)).exists()]
    if len(missing) < 2 or workers < 2:
        return
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=get_context("spawn")) as pool:
        list(pool.map(film_world, *zip(*missing, strict=True)))


def moments_label(count: int) -> str:
    """The group of a question by its number of moments: 1, 2 or 3+."""
    return str(count) if count < _MANY else f"{_MANY}+"
