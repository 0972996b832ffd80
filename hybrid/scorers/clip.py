"""CLIP: the cosine of a frame and the question.

``clip`` alone is the similarity that the coarse stage computes from the index. ``clip:ENCODER`` is that of another
encoder, on the frames themselves, as AKS and BOLT compute it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hybrid.clip.interface import FrameEncoder
from hybrid.clip.registry import load_encoder
from hybrid.scorers.batches import side_by_side
from hybrid.scorers.interface import Loading, ScorerKind, checked
from hybrid.values import ByteArray, FloatArray

__all__ = ["SCORER", "ClipScorer", "load"]


class ClipScorer:
    """A :class:`~hybrid.scorers.interface.VideoScorer` on any encoder."""

    def __init__(self, encoder: FrameEncoder, *, name: str = "clip") -> None:
        """``encoder`` is loaded already."""
        self.name = name
        self._encoder = encoder

    @property
    def identity(self) -> Mapping[str, str]:
        """The identity of the encoder."""
        return self._encoder.identity

    @property
    def device(self) -> str:
        """The device of the encoder."""
        return self._encoder.device

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        """Cosines, -1 to 1."""
        frames = checked(frames, questions)
        texts = np.stack([self._encoder.encode_text(question).vector for question in questions])
        vectors = self._encoder.encode_frames(frames)
        return side_by_side(((texts @ block.T).astype(np.float64) for block in vectors), len(questions))


def load(loading: Loading) -> ClipScorer:
    """Load another encoder than that of the index.

    Raises:
        InputError, ModelLoadError: see :func:`hybrid.clip.registry.load_encoder`.
    """
    encoder = load_encoder(
        loading.checkpoint, device=loading.device, dtype=loading.dtype, batch_size=loading.batch_size
    )
    return ClipScorer(encoder, name=loading.name)


SCORER = ScorerKind(
    name="clip",
    load=load,
    summary="cosine of frame and question",
    needs="nothing but the index; with clip:ENCODER, another open_clip encoder",
    source="CLIP (arXiv 2103.00020)",
    in_engine=True,
    framewise=True,
)
