"""TSPO-0.4B: CLIP and a small attention over time that was trained to pick frames.

TSPO (AAAI 2026, arXiv 2508.04369), checkpoint ``hzf666/TSPO-0.4B``: a CLIP ViT-L/14 with the tensors ``selector.*``.
With CLIP's projected features x_j of T frames (not normalised) and e of the question:

    y = x + PE,  PE[j, 2i] = sin((j / T) f_i),  PE[j, 2i + 1] = cos((j / T) f_i),  f_i = 10000^(-2i / D)
    a_j = attention of 8 heads of y_j over the frames j - 6 .. j + 5 of the video
    z = W2 relu(W1 a + b1) + b2 + x
    score_j = (cos(z_j, e) + cos(x_j, e)) / 0.025

The attention's output projection (``ffn_o``) lies in the checkpoint and is not used. Published with the question
without its options, one frame a second, and top-k (bin-max on Video-MME), in bfloat16; here the part after CLIP is
computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid.errors import ModelLoadError
from hybrid.runtime import model_errors
from hybrid.scorers.batches import in_batches
from hybrid.scorers.checkpoint import Checkpoint, ModelScorer, load_errors, open_checkpoint
from hybrid.scorers.interface import Loading, ScorerKind, checked
from hybrid.scorers.pixels import PixelRule, read_pixel_rule
from hybrid.scorers.sinusoids import sinusoids
from hybrid.values import ByteArray, Float32Array, FloatArray

if TYPE_CHECKING:
    import torch

__all__ = ["SCORER", "SELECTOR_TENSORS", "TspoScorer", "load"]

HEADS = 8
WINDOW = 12
TEMPERATURE = 0.025
_PREFIX = "selector."

_USED = ("temporal.Self_q", "temporal.Self_k", "temporal.Self_v", "mlp.0", "mlp.2")
SELECTOR_TENSORS = tuple(f"{name}.{part}" for name in (*_USED, "temporal.ffn_o") for part in ("weight", "bias"))
"""The names of a checkpoint's tensors behind ``selector.``: each weight is [D, D], each bias [D]."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TspoScorer(ModelScorer):
    """A :class:`~hybrid.scorers.interface.VideoScorer` on a TSPO checkpoint; made by :func:`load`.

    Attributes:
        tokenizer: of the checkpoint.
        selector: float32 tensors by :data:`SELECTOR_TENSORS`.
        pixels: how frames become the model's input.
    """

    tokenizer: Any
    selector: Mapping[str, torch.Tensor]
    pixels: PixelRule

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        """Scores of about -80 to 80; a frame's score depends on its neighbours and on its position in the video."""
        import torch
        from torch.nn.functional import cosine_similarity

        inputs = map(self.pixels.apply, checked(frames, questions))
        texts = [self._text(question) for question in questions]
        blocks = list(in_batches(inputs, self.batch_size, self._pictures))
        if not blocks:
            return np.zeros((len(questions), 0))
        with torch.inference_mode(), model_errors(f"scoring with {self.name}"):
            x = torch.cat(blocks)
            z = self._in_time(x)
            rows = [
                ((z @ e) / (z.norm(dim=-1) * e.norm() + 1e-6) + cosine_similarity(x, e[None], dim=-1)) / TEMPERATURE
                for e in texts
            ]
            scores: FloatArray = torch.stack(rows).cpu().numpy().astype(np.float64)
        return scores

    def _text(self, question: str) -> torch.Tensor:
        """The question's projected features: float32 [D]."""
        import torch

        model = self.model
        longest = int(model.config.text_config.max_position_embeddings)
        with torch.inference_mode(), model_errors(f"encoding a text with {self.name}"):
            tokens = self.tokenizer(question, truncation=True, max_length=longest, return_tensors="pt")
            pooled = model.text_model(**tokens.to(model.device)).pooler_output
            text: torch.Tensor = model.text_projection(pooled)[0].float()
        return text

    def _pictures(self, inputs: Sequence[Float32Array]) -> torch.Tensor:
        """Projected features of frames: float32 [n, D]."""
        import torch

        model = self.model
        with torch.inference_mode(), model_errors(f"encoding {len(inputs)} frames with {self.name}"):
            pixels = torch.from_numpy(np.stack(inputs)).to(model.device, model.dtype)
            pictures: torch.Tensor = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
            return pictures.float()

    def _in_time(self, x: torch.Tensor) -> torch.Tensor:
        """z of the module's text: float32 [T, D]."""
        import torch

        count, width = x.shape
        linear = partial(_linear, self.selector)
        y = x + sinusoids(torch.arange(count) / count, width).to(x.device)
        query, key, value = (linear(f"temporal.Self_{part}", y).view(count, HEADS, -1) for part in "qkv")
        frames = torch.arange(count, device=y.device)[:, None] + torch.arange(WINDOW, device=y.device) - WINDOW // 2
        outside = (frames < 0) | (frames >= count)
        frames = frames.clamp(0, count - 1)
        logits = torch.einsum("thd,twhd->thw", query, key[frames]) / query.shape[-1] ** 0.5
        weights = logits.masked_fill(outside[:, None, :], -torch.inf).softmax(dim=-1)
        attended = torch.einsum("thw,twhd->thd", weights, value[frames]).reshape(count, width)
        z: torch.Tensor = linear("mlp.2", linear("mlp.0", attended).relu()) + x
        return z


def _linear(tensors: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def load(loading: Loading) -> TspoScorer:
    """Load a TSPO checkpoint: a folder, or a name on the hub.

    Raises:
        ModelLoadError: it is missing, incomplete, or no CLIP with TSPO's selector.
        OutOfMemoryError: it does not fit on the device.
    """
    checkpoint = open_checkpoint(loading)
    from transformers import CLIPModel

    class TspoClip(CLIPModel):  # type: ignore[misc]  # transformers has no types here
        _keys_to_ignore_on_load_unexpected = (r"^selector\.",)  # read below

    pixels = read_pixel_rule(checkpoint.files.folder, square=False)
    model = checkpoint.model(TspoClip)
    selector = _read_selector(checkpoint, int(model.config.projection_dim))
    return TspoScorer(
        name=loading.name,
        identity=checkpoint.identity("tspo"),
        model=model,
        tokenizer=checkpoint.tokenizer(),
        selector={name: tensor.to(checkpoint.device) for name, tensor in selector.items()},
        pixels=pixels,
        batch_size=checkpoint.batch_size(cpu=8, cuda=128),
    )


def _read_selector(checkpoint: Checkpoint, width: int) -> dict[str, torch.Tensor]:
    from safetensors import safe_open

    name = checkpoint.name
    found: dict[str, torch.Tensor] = {}
    with load_errors(f"the selector of {name}"):
        for path in checkpoint.files.weights:
            with safe_open(path, framework="pt") as file:
                keys = [key for key in file.keys() if key.startswith(_PREFIX)]  # noqa: SIM118
                found |= {key.removeprefix(_PREFIX): file.get_tensor(key).float() for key in keys}
    for key in SELECTOR_TENSORS:
        shape = [width, width] if key.endswith("weight") else [width]
        if key not in found:
            raise ModelLoadError(f"{name} has no tensor {_PREFIX}{key}; it is a CLIP, but not TSPO's")
        if list(found[key].shape) != shape:
            raise ModelLoadError(f"{name}: {_PREFIX}{key} has the shape {list(found[key].shape)}; it must be {shape}")
    if width % HEADS:
        raise ModelLoadError(f"{name}: its features have {width} values, which {HEADS} heads cannot share")
    return found


SCORER = ScorerKind(
    name="tspo",
    load=load,
    summary="CLIP with an attention over time, trained to pick frames",
    needs="TSPO's checkpoint (hzf666/TSPO-0.4B)",
    source="TSPO (AAAI 2026, arXiv 2508.04369)",
)
