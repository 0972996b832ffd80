"""What every scorer offers: the frames of a video and questions in, one number for each frame and question out.

A scorer knows nothing of videos, times, indexes or selectors. More is better; the scale is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from hybrid.errors import InputError
from hybrid.values import ByteArray, FloatArray
from hybrid.values import check_questions as _check_each

if TYPE_CHECKING:
    from hybrid.fine.prompt import PromptSpec

__all__ = ["Loading", "Replying", "ScorerKind", "Trouble", "VideoScorer", "check_frame", "check_questions"]


class VideoScorer(Protocol):
    """A model that says how relevant each frame is to a question."""

    @property
    def name(self) -> str:
        """What it was asked for by: ``KIND:CHECKPOINT``."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that decides a score: checkpoint, weight hash, prompt, dtype, versions."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        """Score every frame for every question; frames are taken once, one after another.

        Neither the number of frames that are computed together nor the other questions change a score
        (beyond rounding). Scorers that look at neighbours (GenS, TSPO, PEEK) do depend on the other frames.

        Args:
            frames: uint8 [H, W, 3] RGB each, in time order; sizes may differ.
            questions: plain text, at least one.

        Returns:
            float64 [questions, frames], finite.

        Raises:
            InputError: no question or an empty one, or a frame of another form.
            ModelError: what the model raised, in its own words.
            OutOfMemoryError: not even one frame fits on the device.
        """
        ...


@dataclass(frozen=True, slots=True)
class Trouble:
    """What did not go as it should with the scores of one question.

    Attributes:
        reason: for the reader.
        usable: whether there are scores all the same; False: those that were given say nothing.
    """

    reason: str
    usable: bool


@runtime_checkable
class Replying(Protocol):
    """A scorer whose model writes its scores as text, which may turn out not to hold any."""

    @property
    def troubles(self) -> Sequence[Trouble | None]:
        """One a question of the last call of ``score``; None if all its replies could be used."""
        ...


@dataclass(frozen=True, slots=True)
class Loading:
    """What a scorer is loaded with.

    Attributes:
        name: as the caller wrote it: ``KIND:CHECKPOINT``, with options.
        checkpoint: the part after the colon.
        options: the caller's, by name.
        device: ``auto``, ``cpu``, ``cuda`` ...
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        batch_size: frames that are computed together; by default what suits the device.
        prompt, loading, constrained: of a scorer that is a GenS (see :func:`hybrid.fine.load.load_scorer`);
            the others have no such thing.
    """

    name: str
    checkpoint: str
    options: Mapping[str, str]
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None
    prompt: PromptSpec | None = None
    loading: str | None = None
    constrained: bool = False


@dataclass(frozen=True, slots=True)
class ScorerKind:
    """A kind of scorer, and what a reader wants to know of it.

    Attributes:
        name: under which it is asked for; its file has ``_`` for ``-``.
        load: makes one; imports what it needs itself.
        summary: one line.
        needs: what has to be there.
        source: where it comes from.
        options: the names of its options, each with its meaning.
        in_engine: the score is one that answering a question makes anyway, so that it can do without a checkpoint.
        framewise: the score of a frame does not depend on the other frames, so that some can be scored alone.
    """

    name: str
    load: Callable[[Loading], VideoScorer]
    summary: str
    needs: str
    source: str
    options: Mapping[str, str]
    in_engine: bool = False
    framewise: bool = False


def check_questions(questions: Sequence[str]) -> None:
    """Refuse questions that nothing can be compared with.

    Raises:
        InputError: there is none, or one of them is not legal (see :func:`hybrid.values.check_questions`).
    """
    if not questions:
        raise InputError("there is no question to score frames for; give at least one")
    _check_each(questions)


def check_frame(frame: ByteArray) -> ByteArray:
    """The frame, if it is one.

    Raises:
        InputError: it is not uint8 [H, W, 3] with H, W > 0.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise InputError(f"a frame is {frame.dtype} {list(frame.shape)}; it must be uint8 [height, width, 3]")
    return frame
