"""PEEK: which frames of a video are worth a look, whatever the question.

PEEK (momentslab/peek, BMVC 2026), weights ``peek_base.safetensors`` (CC BY-NC-SA 4.0). On features x_j of the frames
(MobileCLIP2-S0 of open_clip, not normalised), one logit a frame:

    h = W LayerNorm(x) + b + PE,   PE[j, 2i] = sin(j f_i),  PE[j, 2i + 1] = cos(j f_i),  f_i = 10000^(-2i / d)
    score = head(2 pre-norm transformer layers, 4 heads, ReLU, over all frames (h))

Frames are resized by their shorter side to the encoder's size, cut to the middle square and divided by 255, no more.
Published at two frames a second of clips; here it reads the frames of the index. It ignores the question: all
questions get the same scores. Its final rule is the selector ``stratified``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid.clip.open_clip import load_open_clip
from hybrid.errors import ModelLoadError, first_line
from hybrid.runtime import dtype_name, model_errors
from hybrid.scorers.batches import batch_size_for, in_batches
from hybrid.scorers.checkpoint import ModelScorer
from hybrid.scorers.interface import Loading, ScorerKind, checked
from hybrid.scorers.pixels import BILINEAR, PixelRule
from hybrid.scorers.sinusoids import sinusoids
from hybrid.values import ByteArray, Float32Array, FloatArray

if TYPE_CHECKING:
    import torch

__all__ = ["ENCODER", "SCORER", "PeekScorer", "load"]

ENCODER = "MobileCLIP2-S0/dfndr2b"
HEADS = 4
"""Of the head's attention; its other sizes follow from the shapes of its tensors."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PeekScorer(ModelScorer):
    """A :class:`~hybrid.scorers.interface.VideoScorer` on PEEK's weights; made by :func:`load`.

    Attributes:
        head: a :class:`torch.nn.Module` of features [T, D].
        side: of the encoder's square pictures.
    """

    head: Any
    side: int

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        """Logits, the same for every question; a frame's logit depends on all others."""
        import torch

        pixels = PixelRule(
            shorter=self.side,
            crop=(self.side, self.side),
            resample=BILINEAR,
            rounded=True,
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
        )
        inputs = map(pixels.apply, checked(frames, questions))
        blocks = list(in_batches(inputs, self.batch_size, self.features))
        if not blocks:
            return np.zeros((len(questions), 0))
        with torch.inference_mode(), model_errors(f"scoring with {self.name}"):
            logits = self.head(torch.cat(blocks)).cpu().numpy().astype(np.float64)
        repeated: FloatArray = np.repeat(logits[None], len(questions), axis=0)
        return repeated

    def features(self, inputs: Sequence[Float32Array]) -> torch.Tensor:
        """The encoder's features of pictures: float32 [n, D]."""
        import torch

        clip = self.model
        with torch.inference_mode(), model_errors(f"encoding {len(inputs)} frames for {self.name}"):
            pixels = torch.from_numpy(np.stack(inputs)).to(clip.device, clip.dtype)
            features: torch.Tensor = clip.model.encode_image(pixels).float()
        return features


def _make_head(tensors: Mapping[str, torch.Tensor]) -> Any:
    """The head in the sizes of these tensors, without their values."""
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
            positions = sinusoids(torch.arange(len(features)), hidden).to(projected.device)
            attended = self.transformer((projected + positions)[None])[0]
            logits: torch.Tensor = self.score_head(attended)[:, 0]
            return logits

    return Head()


def load(loading: Loading) -> PeekScorer:
    """Load PEEK's weights from a file; the option ``encoder`` names another CLIP than the published one.

    Raises:
        InputError: the encoder's name is not legal.
        ModelLoadError: the weights or the encoder are missing, damaged, or do not fit each other.
    """
    from safetensors.torch import load_file

    path = Path(loading.checkpoint).expanduser()
    if not path.is_file():
        raise ModelLoadError(f"there is no file {path}; give the path of the downloaded weights")
    try:
        tensors = load_file(path)
        head = _make_head(tensors)
        head.load_state_dict(tensors)
    except Exception as exc:  # of safetensors, and of torch where a name or a shape differs
        raise ModelLoadError(f"{path} does not hold PEEK's weights: {first_line(exc)}") from exc
    encoder = loading.options.get("encoder", ENCODER)
    clip = load_open_clip(encoder, device=loading.device, dtype=loading.dtype)
    side = clip.model.visual.image_size
    scorer = PeekScorer(
        name=loading.name,
        identity={
            "scorer": "peek",
            "weights": sha256(path.read_bytes()).hexdigest()[:16],
            "dtype": dtype_name(clip.dtype),
            **{f"encoder.{key}": value for key, value in clip.identity.items()},
        },
        model=clip,
        head=head.to(clip.device).eval(),
        side=int(side[0] if isinstance(side, tuple | list) else side),
        batch_size=batch_size_for(str(clip.device), loading.batch_size, cpu=16, cuda=128),
    )
    width = int(tensors["layer_norm.weight"].shape[0])
    made = int(scorer.features([np.zeros((3, scorer.side, scorer.side), dtype=np.float32)]).shape[1])
    if made != width:
        raise ModelLoadError(f"{encoder} gives {made} values a frame, {path} takes {width}; PEEK's own is {ENCODER}")
    return scorer


SCORER = ScorerKind(
    name="peek",
    load=load,
    summary="which frames are worth a look, whatever the question",
    needs=f"PEEK's weights as a file (momentslab/peek, peek_base.safetensors) and the encoder {ENCODER}",
    source="PEEK (BMVC 2026)",
    options={"encoder": "another open_clip encoder, as in --encoder"},
)
