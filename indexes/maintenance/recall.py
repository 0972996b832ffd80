"""How many of the frames that an exact search finds the approximate one finds too, by sample queries."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import mean, median
from typing import Any

import blake3
import numpy as np

from hybrid.storage.json_record import JsonRecord
from hybrid.values import Float32Array
from indexes.ann.files import ApproximateFiles, dimensions_of, name_of
from indexes.ann.search_params import SearchParams
from indexes.archive.reader import ArchiveReader
from indexes.format.manifest import Manifest
from indexes.search.archive_search import ArchiveHits, search_archive_vectors

__all__ = ["Recall", "compare", "encoder_key", "measure_recall", "share_found", "store_queries"]

TOP = 256
_QUERIES = 16


@dataclass(frozen=True, slots=True)
class Recall(JsonRecord):
    """The approximate search of an archive beside the exact one.

    Attributes:
        dimension: of the vectors.
        frames, covered_frames: of the archive, and how many of them the approximate index covers.
        units: how many it scans for them.
        top: how many frames were asked for.
        queries: how many sample queries were asked; 0: none are stored, so nothing could be measured.
        recall: mean share of the exact search's frames that were found, or others of equal similarity.
        least_recall: of the worst query.
        exact_ms, approximate_ms: medians, one thread.
        problem: what is wrong with the approximate index.
    """

    what = "a measured recall"

    dimension: int
    frames: int
    covered_frames: int
    units: int
    top: int
    queries: int
    recall: float | None = None
    least_recall: float | None = None
    exact_ms: float | None = None
    approximate_ms: float | None = None
    problem: str | None = None


def encoder_key(encoder: Mapping[str, Any]) -> str:
    """A name for an encoder, from its identity in a manifest."""
    return blake3.blake3(json.dumps(dict(encoder), sort_keys=True).encode()).hexdigest(length=8)


def store_queries(archive: ArchiveReader, manifest: Manifest, queries: Float32Array) -> None:
    """Keep sample queries for the encoder of a video, in place of any others.

    Args:
        archive: must have an approximate index for the video's dimension.
        manifest: of a video with this encoder.
        queries: float32 [Q, D] unit vectors, of text.

    Raises:
        OSError: they cannot be written.
    """
    files = ApproximateFiles(archive.folder, manifest.dimension)
    files.write_queries(encoder_key(manifest.config.encoder), np.ascontiguousarray(queries, dtype=np.float32))


def measure_recall(
    archive: ArchiveReader, manifests: Sequence[Manifest], *, most_queries: int = _QUERIES
) -> list[Recall]:
    """Compare the approximate search with the exact one, for each dimension that has an approximate index.

    The result is kept beside the index and given again as long as nothing has changed, because
    an exact search of a large archive takes its time.
    """
    measured = []
    for dimension in dimensions_of(archive.folder):
        index = archive.approximate(dimension)
        mine = [manifest for manifest in manifests if manifest.dimension == dimension]
        if index is None or not mine:
            continue
        names = [name_of(manifest) for manifest in mine]
        known = index.covered(names)
        covered = list(compress(names, known))
        bare = Recall(
            dimension=dimension,
            frames=sum(manifest.frames for manifest in mine),
            covered_frames=sum(manifest.frames for manifest in compress(mine, known)),
            units=index.units_of(covered),
            top=TOP,
            queries=0,
            problem=index.problems[0] if index.problems else None,
        )
        measured.append(_measure(archive, mine, bare, names, covered, most_queries))
    return measured


def _measure(
    archive: ArchiveReader,
    manifests: Sequence[Manifest],
    bare: Recall,
    names: Sequence[str],
    covered: Sequence[str],
    most_queries: int,
) -> Recall:
    files = ApproximateFiles(archive.folder, bare.dimension)
    encoders = Counter(encoder_key(manifest.config.encoder) for manifest in manifests)
    encoder = max(sorted(encoders), key=lambda name: encoders[name])
    queries = files.queries(encoder)
    if queries is None or queries.ndim != 2 or queries.shape[1] != bare.dimension or not len(queries):
        return bare
    queries = queries[:most_queries]
    content = json.dumps([sorted(names), sorted(covered), encoder, len(queries), bare.top])
    state = blake3.blake3(content.encode()).hexdigest(length=8)
    known = files.json(f"recall-{encoder}.json")
    if known is not None and known.pop("state", None) == state:
        with contextlib.suppress(TypeError):
            return Recall(**known)
    mine = [manifest for manifest in manifests if encoder_key(manifest.config.encoder) == encoder]
    found = [compare(archive, mine, query, bare.top, SearchParams()) for query in queries]
    result = Recall(
        **{
            **bare.to_dict(),
            "queries": len(queries),
            "recall": mean(shares := [share for share, _, _ in found]),
            "least_recall": min(shares),
            "exact_ms": median(1000 * seconds for _, seconds, _ in found),
            "approximate_ms": median(1000 * seconds for _, _, seconds in found),
        }
    )
    with contextlib.suppress(OSError):
        files.write_json(f"recall-{encoder}.json", {**result.to_dict(), "state": state})
    return result


def compare(
    archive: ArchiveReader, manifests: Sequence[Manifest], query: Float32Array, top: int, params: SearchParams
) -> tuple[float, float, float]:
    """Recall of one query, and the seconds of the exact and of the approximate search."""
    started = time.perf_counter()
    exact = search_archive_vectors(archive, manifests, query, top)
    between = time.perf_counter()
    near = search_archive_vectors(archive, manifests, query, top, params=params)
    ended = time.perf_counter()
    return share_found(exact, near), between - started, ended - between


def share_found(exact: ArchiveHits, near: ArchiveHits) -> float:
    """Of the frames of an exact search the share that another one gives, or frames of equal similarity instead."""
    expected = [hits.similarities for hits in exact.hits.values()]
    if not expected:
        return 1.0
    similarities = np.concatenate(expected)
    found = [hits.similarities for hits in near.hits.values()]
    good = int(np.count_nonzero(np.concatenate(found) >= similarities.min())) if found else 0
    return min(1.0, good / len(similarities))
