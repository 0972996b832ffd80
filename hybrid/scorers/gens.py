"""GenS: its score of 1 to 5 for the frames that it names, 0 for the others.

``gens`` alone is the score of the fine stage, for the frames that it reads. ``gens:CHECKPOINT`` is another checkpoint,
which reads the whole video in consecutive windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.interface import FineModel
from hybrid.fine.load import load_scorer
from hybrid.fine.windows import AskedWindow, FineScores, WindowFailed, WindowRead, WindowReader, merge
from hybrid.formatting import plural
from hybrid.runtime import model_errors
from hybrid.scorers.batches import side_by_side
from hybrid.scorers.interface import Loading, ScorerKind, Trouble, checked
from hybrid.values import DEFAULT_WINDOW, ByteArray, FloatArray, Window

__all__ = ["SCORER", "GensScorer", "load"]


class GensScorer:
    """A :class:`~hybrid.scorers.interface.VideoScorer` on GenS."""

    def __init__(self, scorer: FineModel, *, name: str = "gens", window: int = DEFAULT_WINDOW) -> None:
        """With a checkpoint that is loaded; ``window`` frames are read at once."""
        self.name = name
        self._scorer = scorer
        self._window = window
        self._read_windows: list[list[FineScores]] = []

    @property
    def identity(self) -> Mapping[str, str]:
        """The identity of the checkpoint."""
        return self._scorer.identity

    @property
    def device(self) -> str:
        """The device of the model."""
        return self._scorer.device

    @property
    def troubles(self) -> tuple[Trouble | None, ...]:
        """See :class:`~hybrid.scorers.interface.Replying`."""
        return tuple(_trouble(own, self.device) for own in zip(*self._read_windows, strict=True))

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        """Scores 0 to 5; ``troubles`` tells which questions have replies that could not be used."""
        prepared = map(self._scorer.prepare, checked(frames, questions))
        self._read_windows = []
        windows: Iterator[list[ByteArray]] = iter(lambda: list(islice(prepared, self._window)), [])
        return side_by_side((self._read(window, questions) for window in windows), len(questions))

    def _read(self, frames: Sequence[ByteArray], questions: Sequence[str]) -> FloatArray:
        window = Window(rows=np.arange(len(frames)))
        found = [np.zeros(len(frames), dtype=np.int8) for _ in questions]
        read: dict[int, FineScores] = {}
        with model_errors(f"reading {len(frames)} frames with {self.name}"):
            asked = [AskedWindow(index, window, frames) for index in range(len(questions))]
            for event in WindowReader(self._scorer).read(asked, dict(enumerate(questions))):
                if isinstance(event, WindowFailed):
                    raise event.error
                if isinstance(event, WindowRead):
                    index = event.window.question
                    for piece, reply in event.replies:
                        merge(found[index], piece.window.rows, reply.scores)
                    cut_to = len(event.replies[0][0].window) if len(event.replies) > 1 else None
                    read[index] = FineScores(found[index], tuple(reply for _, reply in event.replies), cut_to)
        self._read_windows.append([read[index] for index in range(len(questions))])
        return np.stack(found).astype(np.float64)


def _trouble(windows: Sequence[FineScores], device: str) -> Trouble | None:
    """The problem with the windows of one question, if there is one."""
    replies = [reply for fine in windows for reply in fine.replies]
    reasons: list[str] = []
    cut_to = [fine.cut_to for fine in windows if fine.cut_to is not None]
    if cut_to:
        reasons.append(f"out of memory on {device}; windows were cut to {plural(min(cut_to), 'frame')}")
    usable = any(fine.scores.any() for fine in windows)
    # A complete reply without a frame means that its window shows nothing relevant.
    mute = sum(1 for reply in replies if reply.status == "empty" and reply.notes)
    if mute and usable:
        reasons.append(f"{mute} of {plural(len(replies), 'window')} gave no usable reply")
    if not usable:
        reasons.append(f"none of the replies to {plural(len(replies), 'window')} holds scores")
    return Trouble("; ".join(reasons), usable) if reasons else None


def load(loading: Loading) -> GensScorer:
    """Load another checkpoint than that of the fine stage.

    Raises:
        ModelLoadError, OutOfMemoryError: see :func:`hybrid.fine.load.load_scorer`.
    """
    scorer = load_scorer(
        loading.checkpoint,
        device=loading.device,
        dtype=loading.dtype,
        prompt=loading.prompt,
        loading=loading.loading,
        loop=LoopOptions(constrained=True) if loading.constrained else None,
    )
    return GensScorer(scorer, name=loading.name)


SCORER = ScorerKind(
    name="gens",
    load=load,
    summary="relevance 1 to 5 of the frames that GenS names, else 0",
    needs="the fine stage; with gens:CHECKPOINT, another checkpoint, which then reads the whole video",
    source="GenS (arXiv 2503.09146)",
    in_engine=True,
)
