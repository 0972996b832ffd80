"""Small archives whose vectors behave like those of videos, and their approximate index."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from archive_samples import some_index, unit_vectors, video_id

from hybrid.values import Sampling, Timeline
from indexes.ann.search_params import SearchParams
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.maintenance.build_ann import ApproximateUpdate, update_approximate
from indexes.search.archive_search import ArchiveHits, search_archive_vectors

DIMENSION = 16
SEGMENT_FRAMES = 150
LITTLE = SearchParams(units=8, most_units=16, deviations=2.0)
MUCH = SearchParams(units=8, most_units=40, deviations=1000.0)


def video_vectors(count: int, seed: int, *, hold: int = 1) -> npt.NDArray[np.float32]:
    """Scenes of some frames each that drift; each frame ``hold`` times."""
    dice = np.random.default_rng(seed)
    distinct = -(-count // hold)
    scenes = np.cumsum(dice.random(distinct) < 0.2)
    centres = dice.standard_normal((int(scenes[-1]) + 1, DIMENSION))
    drift = np.cumsum(dice.standard_normal((distinct, DIMENSION)) * 0.05, axis=0)
    vectors = (centres[scenes] + drift).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.repeat(vectors, hold, axis=0)[:count]


def add_video(archive: Archive, number: int, *, count: int = 40, hold: int = 1, seed: int | None = None) -> None:
    """Index a made-up video."""
    index = some_index(number, count=count, dimension=DIMENSION)
    index["vectors"] = video_vectors(count, number if seed is None else seed, hold=hold)
    times = np.arange(count) // hold
    index["timeline"] = Timeline(np.arange(count), times.astype(np.float64), times, Sampling(), float(count))
    archive.commit(video_id(number), NewIndex(**index))


def fill(archive: Archive, videos: int, *, hold: int = 1) -> None:
    """Index made-up videos."""
    for number in range(videos):
        add_video(archive, number, hold=hold)


def update(archive: Archive, *, renew: bool = False) -> ApproximateUpdate:
    """Bring the approximate index up to date."""
    (done,) = update_approximate(archive, from_frames=1, segment_frames=SEGMENT_FRAMES, renew=renew)
    return done


def query_of(seed: int) -> npt.NDArray[np.float32]:
    """A direction that has nothing to do with any frame."""
    return unit_vectors(1, DIMENSION, 10_000 + seed)[0]


def both(archive: Archive, seed: int, top: int, params: SearchParams = MUCH) -> tuple[ArchiveHits, ArchiveHits]:
    """What the exact and the approximate search find."""
    manifests = list(archive.manifests())
    return (
        search_archive_vectors(archive, manifests, query_of(seed), top),
        search_archive_vectors(archive, manifests, query_of(seed), top, params=params),
    )


def frames_of(found: ArchiveHits) -> list[tuple[float, str, int]]:
    """The frames that were found: similarity, video, row; best first, equals in order of videos and rows."""
    frames = [
        (float(similarity), video, int(row))
        for video, hits in found.hits.items()
        for row, similarity in zip(hits.rows, hits.similarities, strict=True)
    ]
    return sorted(frames, key=lambda frame: (-frame[0], frame[1], frame[2]))
