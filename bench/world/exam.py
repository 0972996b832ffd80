"""Filmed videos of the world with questions and their truth: what models and methods are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.world.film import film_world
from bench.world.questions import Question, choose_questions
from bench.world.scenes import WORLD_VERSION, Split, World, make_world

__all__ = ["Exam", "exam_video", "prepare_exam"]


@dataclass(frozen=True, slots=True)
class Exam:
    """A filmed video and questions about it."""

    world: World
    video: Path
    questions: tuple[Question, ...]


def prepare_exam(
    folder: Path, split: Split, seed: int, *, seconds: float = 300.0, per_kind: int = 5, things: int = 24
) -> Exam:
    """Film a video, unless it is there already, and choose questions about it.

    Args:
        folder: where videos are kept; the name of a file tells all that decides it.
        split, seed, seconds, things: see :func:`bench.world.scenes.make_world`.
        per_kind: most questions of each kind.
    """
    world = make_world(split, seed, seconds=seconds, things=things)
    video = film_world(world, exam_video(folder, world, seconds=seconds, things=things))
    return Exam(world, video, tuple(choose_questions(world, per_kind=per_kind)))


def exam_video(folder: Path, world: World, *, seconds: float = 300.0, things: int = 24) -> Path:
    """Where the video of an exam lies, or will lie; its name tells what decides it, the world's version as well."""
    return folder / f"{world.name}-{seconds:g}s-{things}-v{WORLD_VERSION}.mp4"
