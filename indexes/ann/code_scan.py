"""Scan codes for what is probably nearest to a query: on the processor, or on a GPU where FAISS has one.

The part for a GPU needs faiss-gpu. It has never been run on one, and is written so that it cannot
fail a search: whatever goes wrong there, the processor scans, and says why.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import first_line
from hybrid.values import Float32Array
from indexes.ann.product_quantizer import Codebook, Codes, build_scan, decode, pad_query

__all__ = ["MOST_ON_GPU", "Scan"]

MOST_ON_GPU = 2048
"""FAISS's GPU indexes refuse to find more than so many (``GPU_MAX_SELECTION_K``)."""

_ADDED_AT_ONCE = 65_536


class Scan:
    """Codes that are ready to be scanned. Not for several threads at once.

    Attributes:
        device: where the last search ran: ``cuda:0``, or ``cpu``, with the reason if there is a GPU.
    """

    def __init__(self, book: Codebook, codes: Codes) -> None:
        """Prepare codes: uint8 [N, code_bytes] of a codebook."""
        self.device = "cpu"
        self._book = book
        self._gpu: _OnGpu | None = None
        self._no_gpu = _without_gpu()
        # Only a GPU may need them later: then for the processor after all.
        self._codes = codes if self._no_gpu is None else None
        self._cpu = None if self._no_gpu is None else build_scan(book, codes)
        if self._no_gpu is not None:
            self.device = self._no_gpu

    @property
    def most_on_gpu(self) -> int | None:
        """How many a GPU finds, if one scans; more take the processor. None where the processor scans anyway."""
        return MOST_ON_GPU if self._no_gpu is None else None

    def search(self, query: Float32Array, count: int) -> tuple[Float32Array, npt.NDArray[np.int64]]:
        """The nearest codes by inner product, best first; fewer where FAISS cannot tell them apart.

        Args:
            query: float32 [D].
            count: how many, at most N.

        Returns:
            Approximate similarities (float32) and the rows of the codes.
        """
        import faiss

        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # one query: more threads would only wait for a core
        try:
            scores, rows = self._search(query, count)
        finally:
            faiss.omp_set_num_threads(threads)
        valid = rows[0] >= 0
        return scores[0][valid], rows[0][valid]

    def _search(self, query: Float32Array, count: int) -> Any:
        if self._no_gpu is None and count <= MOST_ON_GPU:
            try:
                assert self._codes is not None
                self._gpu = self._gpu or _OnGpu(self._book, self._codes)
                found = self._gpu.index.search(pad_query(self._gpu.index, query), count)
                self.device = "cuda:0"
                return found
            except Exception as exc:  # whatever it is: the processor can do the same
                self._gpu = None
                self._no_gpu = f"cpu (FAISS could not use the GPU: {first_line(exc)})"
        self.device = self._no_gpu or f"cpu (FAISS finds at most {MOST_ON_GPU} on a GPU; {count} were requested)"
        if self._cpu is None:
            assert self._codes is not None
            self._cpu = build_scan(self._book, self._codes)
        return self._cpu.search(pad_query(self._cpu, query), count)


class _OnGpu:
    """An index on a GPU, and the memory there, which must outlive it."""

    def __init__(self, book: Codebook, codes: Codes) -> None:
        """A GPU scans what the codes stand for as float16: it has no scan of 4-bit codes."""
        import faiss

        self._resources = faiss.StandardGpuResources()
        options = faiss.GpuIndexFlatConfig()
        options.useFloat16 = True
        self.index = faiss.GpuIndexFlatIP(self._resources, book.dimension, options)
        for start in range(0, len(codes), _ADDED_AT_ONCE):
            self.index.add(decode(book, codes[start : start + _ADDED_AT_ONCE]))


def _without_gpu() -> str | None:
    """What to call the processor where FAISS has no GPU; None where it has one."""
    import faiss

    try:
        return None if getattr(faiss, "get_num_gpus", int)() > 0 else "cpu"
    except Exception as exc:  # a driver that does not fit
        return f"cpu (FAISS could not use the GPU: {first_line(exc)})"
