"""Compute things in batches, smaller ones where the device has no room, and join the results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from hybrid.errors import InputError, OutOfMemoryError
from hybrid.values import FloatArray

__all__ = ["batch_size_for", "in_batches", "side_by_side"]

_LOG = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def batch_size_for(device: str, requested: int | None, *, cpu: int, cuda: int) -> int:
    """How many frames are computed together.

    Raises:
        InputError: less than one is requested.
    """
    if requested is not None and requested < 1:
        raise InputError(f"batch_size is {requested}; it must be at least 1")
    return requested or (cuda if device.startswith("cuda") else cpu)


def in_batches(items: Iterable[Item], size: int, compute: Callable[[Sequence[Item]], Result]) -> Iterator[Result]:
    """Results of batches, in order.

    A batch that the device has no room for is cut in half, and so are all that follow: a device that could not hold
    64 frames once will not hold them the next time.

    Args:
        items: taken as they are needed.
        size: of a batch, at least 1.
        compute: gives the result of a batch.

    Raises:
        OutOfMemoryError: there is no room for a single item.
    """
    largest = size
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        start = 0
        while start < len(batch):
            part = batch[start : start + largest]
            try:
                result = compute(part)
            except OutOfMemoryError:
                if len(part) == 1:
                    raise
                largest = (len(part) + 1) // 2
                _LOG.warning("the device has no room for %d frames at once; from now on it gets %d", len(part), largest)
                continue
            start += len(part)
            yield result


def side_by_side(blocks: Iterable[FloatArray], questions: int) -> FloatArray:
    """Blocks [questions, n] of consecutive frames as one array: float64 [questions, N]."""
    joined: FloatArray = np.concatenate([np.zeros((questions, 0)), *blocks], axis=1).astype(np.float64)
    return joined
