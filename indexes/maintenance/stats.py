"""The maintenance of an archive: what it holds and takes, and how unused space is freed."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hybrid.errors import ArchiveError, ArchiveLockedError, IndexDamagedError
from hybrid.storage.atomic import make_folder, write_errors
from hybrid.storage.foreign_json import read_json
from hybrid.storage.json_record import JsonRecord
from hybrid.storage.locks import Locks
from indexes.archive.reader import ArchiveReader
from indexes.archive.source_location import missing_videos
from indexes.archive.writer import Archive
from indexes.format.catalogue import CatalogueWriter
from indexes.format.failures import failures
from indexes.format.layout import Layout
from indexes.format.manifest import Manifest
from indexes.maintenance.recall import Recall, measure_recall

__all__ = ["ArchiveStats", "Compaction", "archive_stats", "compact_archive"]


@dataclass(frozen=True, slots=True)
class ArchiveStats(JsonRecord):
    """What an archive holds.

    Attributes:
        archive: its folder.
        backend: the name of its vector store.
        videos: indexed ones.
        hours: of video that is indexed.
        frames: rows of all indexes.
        missing: samples that could not be decoded.
        statuses: how many videos are ``done``, ``partial``, ``failed`` or ``damaged``.
        encoders: how many videos were indexed with each encoder, rate and policy.
        gone: videos whose file is not where it was, or another one lies there now.
        bytes: by what they are for: vectors, timelines, manifests, features, approximate,
            cache, other.
        files: how many there are.
        bytes_per_frame: of vectors, timelines, manifests and the approximate index; None without frames.
        search: how a whole-archive question is answered: ``exact``, or ``approximate`` for some dimension.
        approximate: the approximate index beside the exact search; empty if there is none.
    """

    what = "the statistics of an archive"

    archive: str
    backend: str
    videos: int
    hours: float
    frames: int
    missing: int
    statuses: Mapping[str, int]
    encoders: Mapping[str, int]
    gone: int
    bytes: Mapping[str, int]
    files: int
    bytes_per_frame: float | None
    search: str = "exact"
    failed: tuple[str, ...] = field(default=())
    approximate: tuple[Recall, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Compaction(JsonRecord):
    """What compacting did.

    Attributes:
        bytes_before, bytes_after: of the whole archive.
        files_before, files_after: how many files it has.
        swept: videos of which something was left over by a killed writer or by another program.
        note: why the vectors take more space than before; None if they do not.
    """

    what = "a compaction"

    bytes_before: int
    bytes_after: int
    files_before: int
    files_after: int
    swept: int
    note: str | None = None


def archive_stats(archive: ArchiveReader, *, recall: bool = True) -> ArchiveStats:
    """Count what an archive holds and what it takes on disk.

    Args:
        archive: may be in use.
        recall: compare the approximate search, if there is one, with the exact one. That takes some
            exact searches of the whole archive, the first time after a change.
    """
    damaged: list[str] = []

    def note(video_id: str, _: IndexDamagedError) -> None:
        damaged.append(video_id)

    manifests = list(archive.manifests(on_damage=note))
    failed = tuple(f"{failure.path}: {failure.reason}" for failure in failures(archive.folder))
    sizes, files = _sizes(archive)
    frames = sum(manifest.frames for manifest in manifests)
    statuses = Counter[str](manifest.status for manifest in manifests)
    statuses.update({"failed": len(failed), "damaged": len(damaged)})
    own = sum(sizes[kind] for kind in ("vectors", "timelines", "manifests", "approximate"))
    measured = measure_recall(archive, manifests) if recall else []
    return ArchiveStats(
        archive=archive.uri,
        backend=archive.backend,
        videos=len(manifests),
        hours=sum(manifest.video.duration_seconds for manifest in manifests) / 3600,
        frames=frames,
        missing=sum(manifest.missing for manifest in manifests),
        statuses={name: statuses[name] for name in ("done", "partial", "failed", "damaged")},
        encoders=dict(Counter(_describe(manifest) for manifest in manifests).most_common()),
        gone=len(missing_videos(archive, manifests)),
        bytes=dict(sizes),
        files=files,
        bytes_per_frame=own / frames if frames else None,
        search="approximate" if measured else "exact",
        failed=failed,
        approximate=tuple(measured),
    )


def compact_archive(archive: Archive, *, approximate_from: int | None = None) -> Compaction:
    """Free the space of what was replaced, removed or left over; bring catalogue and approximate index up to date.

    Other processes may read meanwhile. Videos that are being written are left alone.

    Args:
        archive: which.
        approximate_from: make an approximate index from so many frames on, by default
            :data:`indexes.maintenance.build_ann.FROM_FRAMES`. One that is there is kept up anyway.

    Raises:
        ArchiveError: the archive cannot be written.
    """
    layout = Layout(archive.folder)
    before, files_before = _sizes(archive)
    swept = _sweep(archive, layout)
    note = archive.store.compact()
    _renew_approximate(archive, approximate_from)
    with write_errors(f"archive {archive.uri} cannot be written"):
        _forget_missing_paths(layout)
        CatalogueWriter(layout, Locks(layout.locks)).rewrite()
    after, files_after = _sizes(archive)
    grown = after["vectors"] > before["vectors"]
    totals = sum(before.values()), sum(after.values())
    return Compaction(*totals, files_before, files_after, swept, note if grown else None)


def _renew_approximate(archive: Archive, from_frames: int | None) -> None:
    from indexes.maintenance.build_ann import update_approximate

    with contextlib.suppress(ArchiveLockedError):  # then another process brings it up to date
        update_approximate(archive, from_frames=from_frames, renew=True)


def _sweep(archive: Archive, layout: Layout) -> int:
    """Clean everything that no manifest refers to."""
    left = {key.video_id for key in list(archive.store.keys()) if not _counts(archive, key.video_id, key.generation)}
    with contextlib.suppress(FileNotFoundError):
        left |= set(os.listdir(layout.pending))
    for video_id in sorted(left):
        # A video that is marked as being written is cleaned by whoever locks it next.
        with contextlib.suppress(ArchiveError):
            make_folder(layout.pending)
            (layout.pending / video_id).touch()
            with archive.lock(video_id):
                pass
    return len(left)


def _counts(archive: Archive, video_id: str, generation: str) -> bool:
    try:
        manifest = archive.manifest(video_id)
    except IndexDamagedError:
        return True  # it is not known which generation counts
    return manifest is not None and manifest.generation == generation


def _forget_missing_paths(layout: Layout) -> None:
    """Content ids are remembered by path; those of paths that no longer exist are not needed."""
    with contextlib.suppress(FileNotFoundError):
        for entry in layout.known_paths.iterdir():
            try:
                if os.path.exists(read_json(entry, names=True)["path"]):
                    continue
            except (OSError, ValueError, KeyError, TypeError):
                pass
            entry.unlink(missing_ok=True)


def _describe(manifest: Manifest) -> str:
    encoder = manifest.config.encoder
    name = "/".join(str(encoder[key]) for key in ("model", "pretrained") if encoder.get(key))
    parts = [name, str(encoder.get("precision") or ""), f"{manifest.config.rate:g}/s", manifest.config.policy]
    return ", ".join(part for part in parts if part)


def _sizes(archive: ArchiveReader) -> tuple[Counter[str], int]:
    sizes = Counter[str](dict.fromkeys(_KINDS, 0))
    files = 0
    for path, size in archive.stored_files():
        parts = path.split("/")
        sizes[_kind(parts[0] if len(parts) > 1 else ".", parts[-1])] += size
        files += 1
    return sizes, files


_KINDS = ("vectors", "timelines", "manifests", "features", "approximate", "cache", "other")


def _kind(below: str, name: str) -> str:
    if below.startswith(("frames_", "vectors_")) or (below == "videos" and name.startswith("vectors-")):
        return "vectors"
    if below in ("cache", "approximate"):
        return below
    if below == "videos":
        if name == "manifest.json":
            return "manifests"
        for prefix, kind in (("timeline-", "timelines"), ("features-", "features")):
            if name.startswith(prefix):
                return kind
    return "other"
