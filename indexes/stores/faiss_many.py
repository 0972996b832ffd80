"""Search the FAISS files of many videos, whole or only some rows of them.

For one video a file is read whole (:mod:`indexes.stores.faiss_store`). Over thousands of them that would
copy the archive into memory at every question; mapped, the system's page cache holds it once. When a file
is mapped it is compared with what was committed, once: hashing it reads it as the first search would. A
mapped file that is read for the first time comes in page by page, which was measured to be many
times slower than reading it (docs/format.md), so the system is told to read the files ahead.

Of single rows the codes are copied out of the mapped files into one small index, and FAISS searches that. So
the arithmetic is that of a whole search, to the last bit: FAISS sums each code by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from hybrid.errors import IndexDamagedError
from hybrid.values import Float32Array, IntArray
from indexes.format.layout import VectorKey
from indexes.format.manifest import Committed
from indexes.stores.interface import Found, Scored
from indexes.stores.vectors import RunProofs, are_proven, check_length

__all__ = ["scan_files", "score_rows"]

_FILES_AT_ONCE = 32
"""How many files a thread takes at a time, and how far the system reads ahead of it."""


def scan_files(
    keys: Sequence[VectorKey],
    search: Callable[[VectorKey], Found],
    read_ahead: Callable[[Sequence[VectorKey]], None],
    *,
    threads: int,
) -> Iterator[Found]:
    """Search many files, each thread some at a time.

    Args:
        keys: which.
        search: searches one.
        read_ahead: has the system read some.
        threads: at least 1.
    """
    blocks = [keys[start : start + _FILES_AT_ONCE] for start in range(0, len(keys), _FILES_AT_ONCE)]

    def run(number: int) -> list[Found]:
        if number == 0:
            read_ahead(blocks[0])
        if number + threads < len(blocks):
            read_ahead(blocks[number + threads])
        return [search(key) for key in blocks[number]]

    if threads == 1 or len(blocks) < 2:
        yield from itertools.chain.from_iterable(map(run, range(len(blocks))))
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="hybrid-scan") as pool:
        yield from itertools.chain.from_iterable(pool.map(run, range(len(blocks))))


def score_rows(
    open_index: Callable[[VectorKey, str | None], Any],
    rows: Mapping[VectorKey, IntArray],
    committed: Mapping[VectorKey, Committed],
    query: Float32Array,
    proofs: Mapping[VectorKey, RunProofs],
) -> Iterator[Scored]:
    """See :meth:`indexes.stores.interface.VectorStore.score`."""
    errors: dict[VectorKey, IndexDamagedError] = {}
    codes: list[npt.NDArray[np.uint8]] = []
    for key, chosen in rows.items():
        try:
            vectors_hash = None if key in proofs else committed[key].vectors_hash
            found = _codes(open_index(key, vectors_hash), key, chosen, len(query))
            if key in proofs and not are_proven(found.view("<f2"), proofs[key]):
                raise IndexDamagedError(f"video {key.video_id}: the vectors are not what was written")
            codes.append(found)
        except IndexDamagedError as exc:
            errors[key] = exc
    similarities = _similarities(np.concatenate(codes), query) if codes else np.zeros(0, dtype=np.float32)
    start = 0
    for key, chosen in rows.items():
        if key in errors:
            yield Scored(key, None, errors[key])
            continue
        yield Scored(key, similarities[start : start + len(chosen)], None)
        start += len(chosen)


def _codes(index: Any, key: VectorKey, rows: IntArray, dimension: int) -> npt.NDArray[np.uint8]:
    check_length(dimension, key, index.d)
    if rows[-1] >= index.ntotal:
        raise IndexDamagedError(f"video {key.video_id}: row {rows[-1]} of {index.ntotal} was asked for")
    # A view, which holds as long as the index does; the rows are copied here.
    view: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(index.codes.data(), index.codes.size())
    return view.reshape(index.ntotal, index.code_size)[rows]


def _similarities(codes: npt.NDArray[np.uint8], query: Float32Array) -> Float32Array:
    index = faiss.IndexScalarQuantizer(len(query), faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add_sa_codes(codes)
    found, rows = index.search(query[None], len(codes))
    similarities = np.full(len(codes), np.nan, dtype=np.float32)
    # FAISS leaves out what is not a number; that stays one, so that it is seen.
    valid = rows[0] >= 0
    similarities[rows[0][valid]] = found[0][valid]
    return similarities
