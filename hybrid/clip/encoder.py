"""Frames and questions as unit vectors of one space, with any model of open_clip.

An encoder is named the way the field names it: ``ViT-B-32/laion2b_s34b_b79k`` (architecture/tag or
architecture/file), ``hf-hub:organisation/name``, or ``local-dir:FOLDER`` (a bare path of a folder
does as well). The preprocessing is the checkpoint's own, run by open_clip's own transform.
This module knows nothing of videos, times or indexes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from hybrid.clip.open_clip import load_open_clip
from hybrid.errors import InputError, OutOfMemoryError
from hybrid.runtime import out_of_memory_as_error
from hybrid.values import ByteArray, Float32Array, check_questions

if TYPE_CHECKING:
    import torch

__all__ = ["ClipEncoder", "FrameEncoder", "TextVector", "load_encoder"]

_LOG = logging.getLogger(__name__)

CPU_BATCH = 32
CUDA_BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class TextVector:
    """A question as a unit vector.

    Attributes:
        vector: float32 [D], length 1.
        tokens: how many tokens the text has, start and end marks included.
        context_length: how many the encoder reads.
    """

    vector: Float32Array
    tokens: int
    context_length: int

    @property
    def note(self) -> str | None:
        """What to tell the reader if the text did not fit; None if it did."""
        if self.tokens <= self.context_length:
            return None
        return (
            f"the text encoder reads {self.context_length} tokens and the question has {self.tokens}: "
            "the coarse stage did not see its end"
        )


class FrameEncoder(Protocol):
    """What the engine needs of an encoder."""

    @property
    def name(self) -> str:
        """The name that it was loaded by."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that decides a vector; equal identities give vectors that may be compared."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def encode_frames(self, frames: Iterable[ByteArray]) -> Iterator[Float32Array]:
        """Unit vectors of frames (uint8 [H, W, 3] RGB) in order, as float32 [n, D] blocks."""
        ...

    def encode_text(self, text: str) -> TextVector:
        """The unit vector of a text."""
        ...


class ClipEncoder:
    """An open_clip model, its preprocessing and its tokenizer."""

    def __init__(
        self,
        *,
        name: str,
        identity: Mapping[str, str],
        model: Any,
        preprocess: Any,
        tokenizer: Any,
        device: torch.device,
        dtype: torch.dtype,
        batch_size: int | None = None,
    ) -> None:
        self.name = name
        self.identity = dict(identity)
        self._model = model
        self._preprocess = preprocess
        self._tokenizer = tokenizer
        self._device = device
        self._dtype = dtype
        self._batch_size = batch_size or (CUDA_BATCH if device.type == "cuda" else CPU_BATCH)
        self._largest = self._batch_size
        # A GPU outruns one preprocessing thread many times over; on a CPU the model needs the cores.
        self._workers = 8 if device.type == "cuda" else 1

    @property
    def device(self) -> str:
        """Where the model runs, as torch names it."""
        return str(self._device)

    def encode_frames(self, frames: Iterable[ByteArray]) -> Iterator[Float32Array]:
        """Unit vectors of frames, in order.

        Frames are preprocessed one by one as they come, so that no more than one batch of small
        images is held whatever their number and size. Batches always hold the same number of
        frames, but for the last one, so that the vectors of a video come out the same each time.

        Args:
            frames: uint8 [H, W, 3] RGB; sizes may differ.

        Yields:
            float32 [n, D] blocks.

        Raises:
            OutOfMemoryError: not even one frame fits on the device.
        """
        for batch in _batches(self._tensors(frames), self._batch_size):
            yield self._encode_in_parts(batch)

    def encode_text(self, text: str) -> TextVector:
        """The unit vector of a text; a text that is too long is cut, and the result says so.

        Raises:
            InputError: the text is not legal as a question.
        """
        import torch

        check_questions([text])
        tokens = _count_tokens(self._tokenizer, text)
        ids = self._tokenizer([text]).to(self._device)
        with torch.inference_mode(), out_of_memory_as_error(f"encoding a text with {self.name}"):
            features = self._model.encode_text(ids)
            vector = torch.nn.functional.normalize(features.float(), dim=-1)[0].cpu().numpy()
        return TextVector(vector=vector, tokens=tokens, context_length=int(ids.shape[1]))

    def _tensors(self, frames: Iterable[ByteArray]) -> Iterator[torch.Tensor]:
        if self._workers == 1:
            yield from map(self._to_tensor, frames)
            return
        with ThreadPoolExecutor(max_workers=self._workers) as pool:
            pending: deque[Future[torch.Tensor]] = deque()
            for frame in frames:
                pending.append(pool.submit(self._to_tensor, frame))
                if len(pending) > 2 * self._workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _to_tensor(self, frame: ByteArray) -> torch.Tensor:
        from PIL import Image

        tensor: torch.Tensor = self._preprocess(Image.fromarray(frame))
        return tensor

    def _encode_in_parts(self, batch: Sequence[torch.Tensor]) -> Float32Array:
        """Encode a batch; if the device has no room for it, in ever smaller parts."""
        import numpy as np

        size = min(len(batch), self._largest)
        while True:
            try:
                parts = [self._encode_batch(batch[start : start + size]) for start in range(0, len(batch), size)]
            except OutOfMemoryError:
                if size == 1:
                    raise
                # Kept, so that the batches that follow do not run into the same wall.
                size = self._largest = (size + 1) // 2
                _LOG.warning("%s has no room for a batch of frames; it is encoded %d at a time", self.device, size)
            else:
                return np.concatenate(parts)

    def _encode_batch(self, batch: Sequence[torch.Tensor]) -> Float32Array:
        import torch

        with torch.inference_mode(), out_of_memory_as_error(f"encoding {len(batch)} frames with {self.name}"):
            pixels = torch.stack(list(batch)).to(self._device, dtype=self._dtype)
            features = self._model.encode_image(pixels)
            unit = torch.nn.functional.normalize(features.float(), dim=-1)
        vectors: Float32Array = unit.cpu().numpy()
        return vectors


def load_encoder(name: str, *, device: str = "auto", dtype: str = "auto", batch_size: int | None = None) -> ClipEncoder:
    """Load an encoder by its name (see the module's text).

    Args:
        name: ``ARCHITECTURE/TAG``, ``hf-hub:NAME`` or ``local-dir:FOLDER``.
        device: ``auto`` (CUDA if there), ``cpu``, ``cuda``, ``cuda:0`` ...
        dtype: precision of the weights: ``auto`` (bfloat16 on CUDA, float32 on a CPU), ``float32``,
            ``bfloat16`` or ``float16``.
        batch_size: frames encoded at once; by default what suits the device.

    Raises:
        InputError: the name, device or precision is not legal.
        ModelLoadError: the checkpoint is missing or damaged, or cannot be downloaded.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1")
    loaded = load_open_clip(name, device=device, dtype=dtype)
    return ClipEncoder(
        name=name,
        identity=loaded.identity,
        model=loaded.model,
        preprocess=loaded.preprocess,
        tokenizer=loaded.tokenizer,
        device=loaded.device,
        dtype=loaded.dtype,
        batch_size=batch_size,
    )


def _batches(items: Iterable[torch.Tensor], size: int) -> Iterator[list[torch.Tensor]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _count_tokens(tokenizer: Any, text: str) -> int:
    if hasattr(tokenizer, "encode"):
        # open_clip's own byte-pair tokenizer counts without the marks of start and end.
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(tokenizer.clean_fn(text))["input_ids"])
