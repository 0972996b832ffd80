"""What the tiny GenS is taught when, and the batches for it, drawn ahead by other processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch.utils.data import DataLoader, Dataset

from bench.world.questions import Kind
from bench.world.training.bank import Bank
from bench.world.training.gens_model import make_tokenizer
from bench.world.training.packing import Packed, WindowPacker
from bench.world.training.windows import Lesson, Window, draw_window

__all__ = ["CURRICULUM", "BatchPlan", "Chapter", "chapter_at", "draw_batch", "stream_batches"]

_ALL: Final[dict[Kind, float]] = {
    "object": 1.0,
    "relation": 0.7,
    "first": 0.6,
    "last": 0.6,
    "after": 1.2,
    "before": 1.2,
}
_TOKENS_PER_PART: Final = 32
_TOKENS_PER_FRAME: Final = 4


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the training.

    Attributes:
        until: share of the steps at which it ends.
        lesson: what it teaches.
        captions: share of its steps that teach captions instead of replies.
        parts: captions or questions per window.
        tokens: about how many a process takes per step.
    """

    until: float
    lesson: Lesson
    captions: float
    parts: int
    tokens: int


CURRICULUM: Final = (
    Chapter(0.06, Lesson((4, 12), 3, {"object": 1.0}), captions=1.0, parts=10, tokens=2000),
    Chapter(0.16, Lesson((3, 12), 3, {"object": 1.0}, things=(4, 8)), captions=0.2, parts=12, tokens=1500),
    Chapter(0.32, Lesson((6, 32), 6, _ALL, things=(4, 10)), captions=0.15, parts=16, tokens=2500),
    Chapter(0.50, Lesson((6, 80), 12, _ALL), captions=0.1, parts=16, tokens=2500),
    Chapter(0.75, Lesson((12, 256), 12, _ALL, things=(4, 26)), captions=0.05, parts=16, tokens=3500),
    Chapter(1.01, Lesson((64, 256), 12, _ALL, things=(8, 30)), captions=0.02, parts=24, tokens=4500),
)


def chapter_at(share: float) -> Chapter:
    """The chapter that is taught when a share of the steps (0 to 1) is done."""
    return next(chapter for chapter in CURRICULUM if share < chapter.until)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What decides which batches are drawn.

    Attributes:
        steps: of the whole training.
        seed, rank: batch ``n`` of a seed and a rank is always the same.
        larger: how many times the tokens that a chapter names.
        skipped: share of the curriculum that is left out at the beginning.
    """

    steps: int
    seed: int
    rank: int
    larger: float
    skipped: float = 0.0

    def chapter(self, step: int) -> Chapter:
        """What is taught at a step."""
        return chapter_at(self.skipped + (1 - self.skipped) * step / self.steps)


def draw_batch(rng: np.random.Generator, bank: Bank, chapter: Chapter, *, larger: float = 1.0) -> list[Window]:
    """Windows of one length, about as many tokens of them as the chapter says, or so many times as many."""
    least, most = chapter.lesson.frames
    # Even over the orders of magnitude: short windows are cheap, and there should be many.
    frames = int(np.exp(rng.uniform(np.log(least), np.log(most + 1))))
    per_window = frames * _TOKENS_PER_FRAME + chapter.parts * _TOKENS_PER_PART
    count = max(1, int(chapter.tokens * larger / per_window))
    return [draw_window(rng, bank, chapter.lesson, frames=frames, questions=chapter.parts) for _ in range(count)]


class _Batches(Dataset[Packed]):
    """Batch number ``n`` is always the same, whoever asks and in whatever order."""

    def __init__(self, bank: Bank, plan: BatchPlan) -> None:
        self._bank, self._plan = bank, plan
        self._packer: WindowPacker | None = None

    def __getitem__(self, step: int) -> Packed:
        plan = self._plan
        # In the process that draws: a tokenizer cannot be sent to it.
        packer = self._packer = self._packer or WindowPacker(make_tokenizer())
        chapter = plan.chapter(step)
        rng = np.random.default_rng([plan.seed, step, plan.rank])
        windows = draw_batch(rng, self._bank, chapter, larger=plan.larger)
        if rng.random() < chapter.captions:
            return packer.captions(windows, rng, each=chapter.parts)
        return packer.replies(windows)


def stream_batches(bank: Bank, plan: BatchPlan, *, first: int, workers: int) -> Iterator[Packed]:
    """The batches of the steps from ``first`` on.

    Args:
        bank: frames to take windows from.
        plan: decides what is drawn.
        first: step to begin with, so that a stopped run can go on.
        workers: processes that draw ahead; 0 draws in this one.
    """
    yield from DataLoader(
        _Batches(bank, plan),
        batch_size=None,
        sampler=range(first, plan.steps),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
