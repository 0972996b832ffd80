"""What every scorer offers: the frames of a video and questions in, one number for each frame and question out.

A scorer knows nothing of videos, times, indexes or selectors. More is better; the scale is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from hybrid.errors import InputError
from hybrid.values import ByteArray, FloatArray, check_questions

if TYPE_CHECKING:
    from hybrid.fine.prompt import PromptSpec

__all__ = ["Loading", "Replying", "ScorerKind", "Trouble", "VideoScorer", "checked"]


class VideoScorer(Protocol):
    """A model that says how relevant each frame is to a question."""

    @property
    def name(self) -> str:
        """``KIND:CHECKPOINT``, with options, as the caller wrote it."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that decides a score: checkpoint, weight hash, prompt, dtype, versions."""
        ...

    @property
    def device(self) -> str:
        """The device of its model: ``cpu``, ``cuda:0`` ..."""
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
    """A problem with the scores of one question.

    Attributes:
        reason: what happened.
        usable: whether the scores can be used all the same.
    """

    reason: str
    usable: bool


@runtime_checkable
class Replying(Protocol):
    """A scorer whose model writes its scores as text; a text may contain none."""

    @property
    def troubles(self) -> Sequence[Trouble | None]:
        """One for each question of the last call of ``score``; None if all replies to it could be used."""
        ...


@dataclass(frozen=True, slots=True)
class Loading:
    """The arguments of :attr:`ScorerKind.load`.

    Attributes:
        name: as the caller wrote it: ``KIND:CHECKPOINT``, with options.
        checkpoint: the part after the colon.
        options: the caller's, by name.
        device: ``auto``, ``cpu``, ``cuda`` ...
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        batch_size: frames that are computed together; by default it depends on the device.
        prompt, loading, constrained: for GenS only (see :func:`hybrid.fine.load.load_scorer`).
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

    def choice(self, option: str, legal: Sequence[str]) -> str:
        """The value of an option; by default the first legal one.

        Raises:
            InputError: the value is not legal.
        """
        value = self.options.get(option, legal[0])
        if value not in legal:
            raise InputError(f"{option} is {value!r}; legal are {', '.join(legal)}")
        return value


@dataclass(frozen=True, slots=True)
class ScorerKind:
    """A kind of scorer: how one is loaded, and its description.

    Attributes:
        name: the KIND of ``--scores KIND:CHECKPOINT``; its file has ``_`` for ``-``.
        load: loads a scorer; imports model libraries itself.
        summary: one line.
        needs: what must be there.
        source: paper or project that it comes from.
        options: its options, each with its meaning.
        in_engine: answering a question computes these scores anyway, so that no checkpoint is needed.
        framewise: the score of a frame does not depend on the other frames, so that some can be scored alone.
    """

    name: str
    load: Callable[[Loading], VideoScorer]
    summary: str
    needs: str
    source: str
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    in_engine: bool = False
    framewise: bool = False


def checked(frames: Iterable[ByteArray], questions: Sequence[str]) -> Iterator[ByteArray]:
    """The frames, each checked when it is taken; the questions are checked now.

    Raises:
        InputError: there is no question, one of them is not legal (see :func:`hybrid.values.check_questions`), or a
            frame is not uint8 [H, W, 3] with H, W > 0.
    """
    check_questions(questions, required=True)
    return map(_check_frame, frames)


def _check_frame(frame: ByteArray) -> ByteArray:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise InputError(f"a frame is {frame.dtype} {list(frame.shape)}; it must be uint8 [height, width, 3]")
    return frame
