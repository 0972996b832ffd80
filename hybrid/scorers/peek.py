"""PEEK: which frames of a video are worth a look, whatever the question.

PEEK (momentslab/peek, BMVC 2026), weights ``peek_base.safetensors`` (CC BY-NC-SA 4.0). On features x_j of the frames
(MobileCLIP2-S0 of open_clip, not normalised), one logit a frame:

    h = W LayerNorm(x) + b + PE,   PE[j, 2i] = sin(j f_i),  PE[j, 2i + 1] = cos(j f_i),  f_i = 10000^(-2i / d)
    score = head(2 pre-norm transformer layers, 4 heads, ReLU, over all frames (h))

Frames are brought to the encoder's size by their shorter side, cut to the middle square and divided by 255, no more.
Published at two frames a second of clips; here it gets the frames of the index. It does not read the question: all
questions get the same scores. Its final rule is the selector ``stratified``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid.clip.open_clip import ClipEncoder, load_open_clip
from hybrid.errors import ModelLoadError, first_line
from hybrid.runtime import dtype_name
from hybrid.scorers.batches import batch_size_for, in_batches
from hybrid.scorers.checkpoint import file_of, model_errors
from hybrid.scorers.interface import Loading, ScorerKind, check_frame, check_questions
from hybrid.scorers.pixels import BILINEAR, PixelRule
from hybrid.values import ByteArray, Float32Array, FloatArray

if TYPE_CHECKING:
    import torch

__all__ = ["ENCODER", "SCORER", "PeekScorer", "load"]

ENCODER = "MobileCLIP2-S0/dfndr2b"
HEADS = 4
"""The one size of the head that the shapes of its tensors do not tell."""


class PeekScorer:
    """A :class:`~hybrid.scorers.interface.VideoScorer` on PEEK's weights; made by :func:`load`."""

    def __init__(
        self, *, name: str, identity: Mapping[str, str], clip: ClipEncoder, head: Any, size: int, batch_size: int
    ) -> None:
        """``head`` is a :class:`torch.nn.Module` of features [T, D]; ``size`` the side of the encoder's pictures."""
        self.name = name
        self.identity = identity
        self._clip = clip
        self._head = head
        self._pixels = PixelRule(
            shorter=size, crop=(size, size), resample=BILINEAR, rounded=True, mean=(0.0,) * 3, std=(1.0,) * 3
        )
        self._batch_size = batch_size

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._clip.device

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        """Logits, the same for every question; a frame's depends on all others."""
        import torch

        check_questions(questions)
        inputs = (self._pixels.apply(check_frame(frame)) for frame in frames)
        blocks = list(in_batches(inputs, self._batch_size, self._features))
        if not blocks:
            return np.zeros((len(questions), 0))
        with torch.inference_mode(), model_errors(f"scoring with {self.name}"):
            logits = self._head(torch.cat(blocks)).cpu().numpy().astype(np.float64)
        repeated: FloatArray = np.repeat(logits[None], len(questions), axis=0)
        return repeated

    def _features(self, inputs: Sequence[Float32Array]) -> torch.Tensor:
        import torch

        clip = self._clip
        with torch.inference_mode(), model_errors(f"encoding {len(inputs)} frames for {self.name}"):
            pixels = torch.from_numpy(np.stack(inputs)).to(clip.torch_device, clip.dtype)
            features: torch.Tensor = clip.model.encode_image(pixels).float()
        return features


def _make_head(tensors: Mapping[str, torch.Tensor]) -> Any:
    """The head whose sizes the tensors tell, without their values."""
    import torch
    from torch import nn

    hidden, width = tensors["input_projection.weight"].shape
    feed_forward = tensors["transformer.layers.0.linear1.weight"].shape[0]
    layers = len({key.split(".")[2] for key in tensors if key.startswith("transformer.layers.")})

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer_norm = nn.LayerNorm(width)
            self.input_projection = nn.Linear(width, hidden)
            layer = nn.TransformerEncoderLayer(
                hidden, HEADS, dim_feedforward=feed_forward, batch_first=True, norm_first=True
            )
            self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
            self.score_head = nn.Linear(hidden, 1)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            projected = self.input_projection(self.layer_norm(features))
            frequencies = torch.exp(torch.arange(0, hidden, 2) * (-np.log(10000.0) / hidden))
            angles = torch.arange(len(features))[:, None] * frequencies
            places = torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(len(features), hidden)
            seen = self.transformer((projected + places.to(projected.device))[None])[0]
            logits: torch.Tensor = self.score_head(seen)[:, 0]
            return logits

    return Head()


def load(loading: Loading) -> PeekScorer:
    """Load PEEK's weights from a file; the option ``encoder`` names another CLIP than the published one.

    Raises:
        InputError: the encoder's name is not legal.
        ModelLoadError: the weights or the encoder are missing, damaged, or do not fit each other.
    """
    from safetensors.torch import load_file

    path = file_of(loading.checkpoint)
    try:
        tensors = load_file(path)
        head = _make_head(tensors)
        head.load_state_dict(tensors)
    except Exception as exc:  # safetensors, and torch where a name or a shape is another
        raise ModelLoadError(f"{path} does not hold PEEK's weights: {first_line(exc)}") from exc
    encoder = loading.options.get("encoder", ENCODER)
    clip = load_open_clip(encoder, device=loading.device, dtype=loading.dtype)
    width = int(tensors["layer_norm.weight"].shape[0])
    size = _side(clip.model)
    scorer = PeekScorer(
        name=loading.name,
        identity={
            "scorer": "peek",
            "weights": _digest(path),
            "dtype": dtype_name(clip.dtype),
            **{f"encoder.{key}": value for key, value in clip.identity.items()},
        },
        clip=clip,
        head=head.to(clip.torch_device).eval(),
        size=size,
        batch_size=batch_size_for(clip.device, loading.batch_size, cpu=16, cuda=128),
    )
    made = int(scorer._features([np.zeros((3, size, size), dtype=np.float32)]).shape[1])
    if made != width:
        raise ModelLoadError(f"{encoder} gives {made} values a frame, {path} takes {width}; PEEK's own is {ENCODER}")
    return scorer


def _side(model: Any) -> int:
    size = model.visual.image_size
    return int(size[0] if isinstance(size, tuple | list) else size)


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:16]


SCORER = ScorerKind(
    name="peek",
    load=load,
    summary="which frames are worth a look, whatever the question",
    needs=f"PEEK's weights as a file (momentslab/peek, peek_base.safetensors) and the encoder {ENCODER}",
    source="PEEK (BMVC 2026)",
    options={"encoder": "another open_clip encoder, as in --encoder"},
)
