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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid.errors import ModelLoadError, first_line
from hybrid.runtime import ensure_torchvision, model_errors
from hybrid.scorers.batches import batch_size_for, in_batches
from hybrid.scorers.checkpoint import Place, identity_of, load_model, load_tokenizer, open_checkpoint
from hybrid.scorers.interface import Loading, ScorerKind, check_frame, check_questions
from hybrid.scorers.pixels import PixelRule, read_pixel_rule
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


class TspoScorer:
    """A :class:`~hybrid.scorers.interface.VideoScorer` on a TSPO checkpoint; made by :func:`load`."""

    def __init__(
        self,
        *,
        name: str,
        identity: Mapping[str, str],
        model: Any,
        tokenizer: Any,
        selector: Mapping[str, torch.Tensor],
        pixels: PixelRule,
        batch_size: int,
    ) -> None:
        """``selector`` holds float32 tensors by :data:`SELECTOR_TENSORS`."""
        self.name = name
        self.identity = identity
        self._model = model
        self._tokenizer = tokenizer
        self._selector = selector
        self._pixels = pixels
        self._batch_size = batch_size

    @property
    def device(self) -> str:
        """Where it runs."""
        return str(self._model.device)

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        """Scores of about -80 to 80; a frame's score depends on its neighbours and on where in the video it lies."""
        import torch

        check_questions(questions)
        texts = [self._text(question) for question in questions]
        inputs = (self._pixels.apply(check_frame(frame)) for frame in frames)
        blocks = list(in_batches(inputs, self._batch_size, self._pictures))
        if not blocks:
            return np.zeros((len(questions), 0))
        with torch.inference_mode(), model_errors(f"scoring with {self.name}"):
            pictures = torch.cat(blocks)
            placed = self._in_time(pictures)
            rows = [(_cosine(placed, text, 1e-6) + _plain_cosine(pictures, text)) / TEMPERATURE for text in texts]
            scores: FloatArray = torch.stack(rows).cpu().numpy().astype(np.float64)
        return scores

    def _text(self, question: str) -> torch.Tensor:
        """The question's projected features: float32 [D]."""
        import torch

        model = self._model
        longest = int(model.config.text_config.max_position_embeddings)
        with torch.inference_mode(), model_errors(f"encoding a text with {self.name}"):
            tokens = self._tokenizer(question, truncation=True, max_length=longest, return_tensors="pt")
            pooled = model.text_model(**tokens.to(model.device)).pooler_output
            text: torch.Tensor = model.text_projection(pooled)[0].float()
        return text

    def _pictures(self, inputs: Sequence[Float32Array]) -> torch.Tensor:
        """Projected features of frames: float32 [n, D]."""
        import torch

        model = self._model
        with torch.inference_mode(), model_errors(f"encoding {len(inputs)} frames with {self.name}"):
            pixels = torch.from_numpy(np.stack(inputs)).to(model.device, model.dtype)
            pictures: torch.Tensor = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
            return pictures.float()

    def _in_time(self, pictures: torch.Tensor) -> torch.Tensor:
        """z of the module's text: float32 [T, D]."""
        import torch

        count, width = pictures.shape
        linear = partial(_linear, self._selector)
        y = pictures + _positions(count, width, pictures.device)
        query, key, value = (linear(f"temporal.Self_{part}", y).view(count, HEADS, -1) for part in "qkv")
        places = torch.arange(count, device=y.device)[:, None] + torch.arange(WINDOW, device=y.device) - WINDOW // 2
        outside = (places < 0) | (places >= count)
        places = places.clamp(0, count - 1)
        logits = torch.einsum("thd,twhd->thw", query, key[places]) / query.shape[-1] ** 0.5
        weights = logits.masked_fill(outside[:, None, :], -torch.inf).softmax(dim=-1)
        attended = torch.einsum("thw,twhd->thd", weights, value[places]).reshape(count, width)
        placed: torch.Tensor = linear("mlp.2", linear("mlp.0", attended).relu()) + pictures
        return placed


def _linear(tensors: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _positions(count: int, width: int, device: torch.device) -> torch.Tensor:
    """PE of the module's text: float32 [T, D]."""
    import torch

    frequencies = torch.exp(torch.arange(0, width, 2) * (-np.log(10000.0) / width))
    angles = (torch.arange(count)[:, None] / count) * frequencies
    positions: torch.Tensor = torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(count, width).to(device)
    return positions


def _cosine(a: torch.Tensor, b: torch.Tensor, slack: float) -> torch.Tensor:
    cosines: torch.Tensor = (a @ b) / (a.norm(dim=-1) * b.norm() + slack)
    return cosines


def _plain_cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.cosine_similarity(a, b[None], dim=-1)


def load(loading: Loading) -> TspoScorer:
    """Load a TSPO checkpoint: a folder, or a name on the hub.

    Raises:
        ModelLoadError: it is missing, incomplete, or no CLIP with TSPO's selector.
        OutOfMemoryError: it does not fit on the device.
    """
    place = Place.of(loading)
    files = open_checkpoint(loading.checkpoint)
    ensure_torchvision()
    from transformers import CLIPModel

    class TspoClip(CLIPModel):  # type: ignore[misc]  # transformers has no types here
        _keys_to_ignore_on_load_unexpected = (r"^selector\.",)  # read below

    pixels = read_pixel_rule(files.folder, square=False)
    model = load_model(files, TspoClip, place)
    selector = _read_selector(files.name, files.weights, int(model.config.projection_dim))
    return TspoScorer(
        name=loading.name,
        identity=identity_of(files, "tspo", place),
        model=model,
        tokenizer=load_tokenizer(files),
        selector={name: tensor.to(place.device) for name, tensor in selector.items()},
        pixels=pixels,
        batch_size=batch_size_for(str(place.device), loading.batch_size, cpu=8, cuda=128),
    )


def _read_selector(name: str, weights: Sequence[Path], width: int) -> dict[str, torch.Tensor]:
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    try:
        for path in weights:
            with safe_open(path, framework="pt") as file:
                keys = [key for key in file.keys() if key.startswith(_PREFIX)]  # noqa: SIM118
                found |= {key.removeprefix(_PREFIX): file.get_tensor(key).float() for key in keys}
    except Exception as exc:  # safetensors has error types of its own
        raise ModelLoadError(f"{name}: its weights cannot be read as safetensors: {first_line(exc)}") from exc
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
    options={},
)
