"""Codes of 4 bits for parts of vectors, and the scan over all of them.

Product quantisation (Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011) with
16 centroids a part, laid out so that a processor compares 32 codes at a time (Andre, Kermarrec and Le
Scouarnec, "Cache locality is not enough", 2015); both as FAISS has them (``IndexPQFastScan``). No cells are
probed: text vectors lie far from every image vector, and the cells of image vectors mislead them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from hybrid.values import Float32Array

__all__ = ["Codebook", "Codes", "build_scan", "decode", "encode", "pad_query", "train_codebook"]

Codes = npt.NDArray[np.uint8]

_CENTROIDS = 16
_MOST_PARTS = 256
"""FAISS adds up the parts in 16 bits; more would be compared more coarsely for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Codebook:
    """The centroids of all parts.

    Attributes:
        centroids: float32 [parts, 16, width]; ``parts * width`` is at least the dimension, and what
            is beyond it is zero.
        dimension: of the vectors.
    """

    centroids: Float32Array
    dimension: int

    @property
    def parts(self) -> int:
        """How many parts a vector has."""
        return int(self.centroids.shape[0])

    @property
    def code_bytes(self) -> int:
        """How many bytes a code has."""
        return (self.parts + 1) // 2


def train_codebook(vectors: Float32Array) -> Codebook:
    """Learn centroids from float32 [N >= 16, D] vectors. Equal vectors give an equal codebook."""
    dimension = vectors.shape[1]
    width = max(2, -(-dimension // _MOST_PARTS))
    parts = -(-dimension // width)
    quantizer = faiss.ProductQuantizer(parts * width, parts, 4)
    quantizer.cp.min_points_per_centroid = 1  # few are no reason for a warning on standard error
    quantizer.cp.max_points_per_centroid = max(256, len(vectors))  # FAISS would take a sample of its own
    quantizer.train(_padded(vectors, parts * width))
    centroids = faiss.vector_to_array(quantizer.centroids).reshape(parts, _CENTROIDS, width)
    return Codebook(np.ascontiguousarray(centroids), dimension)


def encode(book: Codebook, vectors: Float32Array) -> Codes:
    """The codes of vectors: uint8 [N, code_bytes]."""
    index = _index(book)  # held: its quantizer dies with it
    codes: Codes = index.pq.compute_codes(_padded(vectors, index.d))
    return codes


def decode(book: Codebook, codes: Codes) -> Float32Array:
    """What codes stand for: float32 [N, dimension]."""
    index = _index(book)
    vectors: Float32Array = index.pq.decode(codes)
    return np.ascontiguousarray(vectors[:, : book.dimension])


def build_scan(book: Codebook, codes: Codes) -> Any:
    """A FAISS index over codes, for searching with :func:`pad_query` vectors by inner product."""
    plain = _index(book)
    faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), plain.codes)
    plain.ntotal = len(codes)
    return faiss.IndexPQFastScan(plain)


def pad_query(index: Any, query: Float32Array) -> Float32Array:
    """A query of the length that the scan expects: float32 [1, D']."""
    return _padded(query[None], index.d)


def _index(book: Codebook) -> Any:
    parts, _, width = book.centroids.shape
    index = faiss.IndexPQ(parts * width, parts, 4, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.ascontiguousarray(book.centroids, dtype=np.float32).ravel(), index.pq.centroids)
    index.is_trained = True
    return index


def _padded(vectors: Float32Array, length: int) -> Float32Array:
    missing = length - vectors.shape[1]
    return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors)
