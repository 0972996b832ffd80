"""The coarse stage of a search: the best frames of all videos, by their similarity to the question."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hybrid.answers import Stage
from hybrid.clip.interface import FrameEncoder
from hybrid.engine.checking import older_note, option_for_encoder
from hybrid.engine.search.work import Search, SearchModels
from hybrid.errors import IndexDamagedError, IndexMismatchError
from hybrid.formatting import plural
from indexes.ann.search_params import SearchParams
from indexes.format.manifest import Manifest
from indexes.search.hits import ApproximateRecord
from indexes.search.timed_hits import TimedHits, find_timed_hits

__all__ = ["find_frames"]

_MOST_THREADS = 8


def find_frames(search: Search, manifests: Sequence[Manifest], models: SearchModels) -> TimedHits:
    """Find the best frames of videos with their times, and keep the record.

    Raises:
        IndexMismatchError: not one of the videos was indexed with the encoder.
        IndexDamagedError: not one of the videos can be read.
        StageFailedError: ``strict``, and not every video was searched as it was asked for.
        ModelError: the encoder cannot be loaded or runs out of memory.
    """
    if not manifests:
        raise IndexDamagedError(f"not one video can be searched; the first: {search.skipped[0].reason}")
    asked = time.perf_counter()
    _check_names(search, manifests, models)
    encoder = models.encoder(_most_common(manifests))
    fitting = _fitting(search, manifests, encoder, models)
    started = time.perf_counter()
    text = encoder.encode_text(search.question)
    encoded = time.perf_counter()
    threads = search.options.threads or min(_MOST_THREADS, os.cpu_count() or 1)
    params = None if search.options.exact else SearchParams()
    timed = find_timed_hits(search.archive, fitting, text.vector, search.options.top, threads=threads, params=params)
    found = timed.found
    ended = time.perf_counter()
    for manifest in fitting:
        if manifest.video_id in found.failed:
            search.skip(manifest, found.failed[manifest.video_id])
    if not found.searched:
        raise IndexDamagedError(f"not one video can be searched; the first: {search.skipped[0].reason}")
    frames = sum(manifest.frames for manifest in found.manifests.values())
    reason = None
    if search.skipped:
        first = search.skipped[0]
        total = len(found.searched) + len(search.skipped)
        reason = (
            f"{len(search.skipped)} of {plural(total, 'video')} not searched; the first, {first.video}: {first.reason}"
        )
    if found.approximate is not None:
        search.record(_approximate_stage(found.approximate, ended - encoded))
    search.record(
        Stage(
            name="coarse",
            ran=True,
            seconds=ended - started,
            model=encoder.name,
            device=encoder.device,
            candidates_in=frames,
            candidates_out=sum(map(len, found.hits.values())),
            fallback_reason=reason,
            notes=(*((text.note,) if text.note else ()), *older_note(found.manifests.values())),
            details={
                "load_seconds": started - asked,
                "encode_seconds": encoded - started,
                "search_seconds": ended - encoded,
                "videos": len(found.searched),
                "threads": threads,
                "exact": found.approximate is None or not found.approximate.used,
                "identity": dict(encoder.identity),
            },
        )
    )
    return timed


def _approximate_stage(record: ApproximateRecord, seconds: float) -> Stage:
    return Stage(
        name="approximate",
        ran=record.used,
        seconds=seconds,
        device=record.device,
        candidates_in=record.units,
        candidates_out=record.compared_units,
        fallback_reason=record.problem,
        notes=(record.note,) if record.note else (),
        details={
            "segments": record.segments,
            "compared_frames": record.compared_frames,
            "exact_frames": record.exact_frames,
        },
    )


def _most_common(manifests: Sequence[Manifest]) -> Manifest:
    """A video of the encoder that most videos have; which one decides the precision to load it in."""
    count = Counter(manifest.fingerprint for manifest in manifests)
    fingerprint = max(sorted(count), key=lambda name: count[name])
    return next(manifest for manifest in manifests if manifest.fingerprint == fingerprint)


def _check_names(search: Search, manifests: Sequence[Manifest], models: SearchModels) -> None:
    """Refuse an encoder whose name fits not one of the videos, before it is loaded."""
    if not all(models.name_changes(manifest) for manifest in manifests):
        return
    head = _most_common(manifests)
    raise IndexMismatchError(
        f"of {plural(len(manifests), 'video')} none was indexed with this encoder; the first, {head.source.path}: "
        f"{'; '.join(models.name_changes(head))}; search with the one they were indexed with: "
        f"{option_for_encoder(head)}; "
        f"or index them with this one: hybrid index VIDEO --archive {search.archive.uri}"
    )


def _fitting(
    search: Search, manifests: Sequence[Manifest], encoder: FrameEncoder, models: SearchModels
) -> list[Manifest]:
    """The videos that were indexed with this encoder."""
    known: dict[str, tuple[Mapping[str, object], str]] = {}
    fitting = []
    for manifest in manifests:
        identity, changed = known.get(manifest.fingerprint, (None, ""))
        # A foreign manifest may state the fingerprint of another configuration; it must not speak for the others.
        if identity != manifest.config.encoder:
            changed = "; ".join(models.changes(encoder, manifest))
            known[manifest.fingerprint] = manifest.config.encoder, changed
        if changed:
            search.skip(manifest, f"it was indexed with another encoder ({changed})")
        else:
            fitting.append(manifest)
    if not fitting:
        path, folder = Path(manifests[0].source.path), search.archive.uri
        raise IndexMismatchError(
            f"of {plural(len(manifests), 'video')} none was indexed with the encoder {encoder.name}; the first, "
            f"{path}: {known[manifests[0].fingerprint][1]}; search with the encoder that they were indexed with, or "
            f"index them with this one: hybrid index VIDEO --archive {folder}"
        )
    return fitting
