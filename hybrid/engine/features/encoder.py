"""Between what a vision encoder gives (tensors) and what an archive stores (bytes)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from blake3 import blake3

from hybrid.errors import OutOfMemoryError
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import VIDEO_MODE_REASON, FeatureModel, FineModel
from hybrid.values import ByteArray
from indexes.format.feature_list import FeatureItem, FeatureSpec, feature_item

__all__ = ["Tower", "features_of", "features_unavailable_reason", "items_of", "spec_of"]

CPU_BATCH = 32
CUDA_BATCH = 512
"""Frames per pass of a vision encoder: so many that it is busy, and no more than are worth losing to a kill."""
_CUDA_WORKERS = 8


def features_unavailable_reason(scorer: FineModel) -> str | None:
    """Why a scorer's features of single frames cannot be kept; None if they can."""
    if not isinstance(scorer, FeatureModel):
        return f"{scorer.name} cannot be given features instead of frames"
    if scorer.feature_identity.get("mode", "image") != "image":
        return VIDEO_MODE_REASON
    return None


def spec_of(scorer: FeatureModel) -> FeatureSpec:
    """What a store keeps and compares: as exact as the scorer makes it, so that stored features are its own."""
    return FeatureSpec(dict(scorer.feature_identity), scorer.feature_dtype, scorer.feature_width)


def items_of(features: FrameFeatures) -> list[FeatureItem]:
    """The features of each frame as bytes, on the host: no value is changed."""
    import torch

    by_grid: dict[tuple[int, int], list[int]] = {}
    for index, grid in enumerate(features.grids):
        by_grid.setdefault(grid, []).append(index)
    items: dict[int, FeatureItem] = {}
    for grid, indices in by_grid.items():
        # In one piece, because copies from a device are slow one by one.
        block = torch.stack([features.items[index].detach() for index in indices]).contiguous().cpu()
        values = block.view(torch.uint8).numpy().reshape(len(indices), -1)
        items.update((index, feature_item(grid, row)) for index, row in zip(indices, values, strict=True))
    return [items[index] for index in range(len(features.grids))]


def features_of(items: Sequence[FeatureItem], spec: FeatureSpec, *, seconds: Mapping[str, float]) -> FrameFeatures:
    """The features of a window, from those of its frames in order.

    Its key follows from the content of the frames, so that windows of the same frames share what
    the language model has read, whichever question chose them.
    """
    import torch

    dtype = getattr(torch, spec.dtype)
    key = blake3(spec.key.encode())
    for item in items:
        key.update(item.digest)
    return FrameFeatures(
        items=tuple(torch.from_numpy(item.values).view(dtype).view(-1, spec.width) for item in items),
        grids=tuple(item.grid for item in items),
        frame_count=len(items),
        mode="image",
        key=key.hexdigest(16),
        seconds=dict(seconds),
    )


class Tower:
    """A scorer's vision encoder that is fed frame by frame. Use it as a context manager.

    Attributes:
        scorer: whose it is.
        spec: what its features are of.
        seconds: what it took so far, by part.
        frames: how many frames went through.
    """

    def __init__(self, scorer: FeatureModel) -> None:
        on_cpu = scorer.device.startswith("cpu")
        self.scorer = scorer
        self.spec = spec_of(scorer)
        self.seconds: dict[str, float] = {}
        self.frames = 0
        self._batch = CPU_BATCH if on_cpu else CUDA_BATCH
        # A GPU outruns one thread that resizes many times over; on a CPU the model needs the cores.
        self._pool = None if on_cpu else ThreadPoolExecutor(_CUDA_WORKERS)
        self._resizing: deque[Future[ByteArray]] = deque()
        self._prepared: list[ByteArray] = []

    @property
    def total_seconds(self) -> float:
        """For how long the caller waited for it so far."""
        return sum(self.seconds.values())

    def push(self, frame: ByteArray) -> list[FeatureItem]:
        """Take the next frame: uint8 [H, W, 3]; give the features that are ready, in order.

        Raises:
            OutOfMemoryError: not even one frame fits on the device.
        """
        started = time.perf_counter()
        if self._pool is None:
            self._prepared.append(self.scorer.prepare(frame))
        else:
            self._resizing.append(self._pool.submit(self.scorer.prepare, frame))
            if len(self._resizing) > 2 * _CUDA_WORKERS:
                self._prepared.append(self._resizing.popleft().result())
        self._took("prepare", started)
        return self._encode() if len(self._prepared) >= self._batch else []

    def flush(self) -> list[FeatureItem]:
        """The features of the frames that are still held."""
        started = time.perf_counter()
        while self._resizing:
            self._prepared.append(self._resizing.popleft().result())
        self._took("prepare", started)
        return self._encode()

    def __enter__(self) -> Tower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _encode(self) -> list[FeatureItem]:
        frames, self._prepared = self._prepared, []
        items: list[FeatureItem] = []
        while len(items) < len(frames):
            part = frames[len(items) : len(items) + self._batch]
            try:
                features = self.scorer.encode_frames(part)
            except OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._batch = (len(part) + 1) // 2
                continue
            for name, seconds in features.seconds.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            started = time.perf_counter()
            items += items_of(features)
            self._took("store", started)
        self.frames += len(frames)
        return items

    def _took(self, part: str, started: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started
