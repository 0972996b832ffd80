"""The similarities of some rows of many FAISS files, without looking at the rest of them.

The codes of the rows are copied out of the mapped files into one small index, and FAISS searches that. So
the arithmetic is that of a whole search, to the last bit: FAISS sums each code by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from hybrid.errors import IndexDamagedError, InputError
from hybrid.values import Float32Array, IntArray
from indexes.format.layout import VectorKey
from indexes.format.manifest import Committed
from indexes.stores.faiss_scan import MappedFiles
from indexes.stores.interface import Scored
from indexes.stores.vectors import RunProofs, are_proven

__all__ = ["score_rows"]


def score_rows(
    files: MappedFiles,
    rows: Mapping[VectorKey, IntArray],
    committed: Mapping[VectorKey, Committed],
    query: Float32Array,
    proofs: Mapping[VectorKey, RunProofs],
) -> Iterator[Scored]:
    """See :meth:`indexes.stores.interface.VectorStore.score`."""
    errors: dict[VectorKey, IndexDamagedError] = {}
    codes: list[npt.NDArray[np.uint8]] = []
    for key, wanted in rows.items():
        try:
            vectors_hash = None if key in proofs else committed[key].vectors_hash
            found = _codes(files.take(key, vectors_hash), key, wanted, len(query))
            if key in proofs and not are_proven(found.view("<f2"), proofs[key]):
                raise IndexDamagedError(f"video {key.video_id}: the vectors are not what was written")
            codes.append(found)
        except IndexDamagedError as exc:
            errors[key] = exc
    similarities = _similarities(np.concatenate(codes), query) if codes else np.zeros(0, dtype=np.float32)
    place = 0
    for key, wanted in rows.items():
        if key in errors:
            yield Scored(key, None, errors[key])
            continue
        yield Scored(key, similarities[place : place + len(wanted)], None)
        place += len(wanted)


def _codes(index: Any, key: VectorKey, wanted: IntArray, dimension: int) -> npt.NDArray[np.uint8]:
    if index.d != dimension:
        raise InputError(f"query has {dimension} values; the vectors of video {key.video_id} have {index.d}")
    if wanted[-1] >= index.ntotal:
        raise IndexDamagedError(f"video {key.video_id}: row {wanted[-1]} of {index.ntotal} was asked for")
    # A view, which holds as long as the index does; the rows are copied here.
    view: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(index.codes.data(), index.codes.size())
    return view.reshape(index.ntotal, index.code_size)[wanted]


def _similarities(codes: npt.NDArray[np.uint8], query: Float32Array) -> Float32Array:
    index = faiss.IndexScalarQuantizer(len(query), faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add_sa_codes(codes)
    found, rows = index.search(query[None], len(codes))
    similarities = np.full(len(codes), np.nan, dtype=np.float32)
    # FAISS leaves out what is not a number; that stays one, so that it is seen.
    valid = rows[0] >= 0
    similarities[rows[0][valid]] = found[0][valid]
    return similarities
