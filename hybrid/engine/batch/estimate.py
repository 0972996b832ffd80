"""What an indexing run would take, without decoding or hashing anything.

But for the first frames of videos whose index was made by older rules for reading frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.engine.checking import frames_changed, name_changes
from hybrid.engine.models import feature_maker_of
from hybrid.engine.settings import requested_config
from hybrid.errors import (
    IndexDamagedError,
    InputError,
    MissingDependencyError,
    ModelError,
    VideoError,
    VideoNotIndexedError,
    VideoOpenError,
)
from hybrid.fine.checkpoint import CheckpointNotHereError
from hybrid.fine.known_weights import KnownWeights
from hybrid.frames.registry import probe_seconds
from hybrid.options.engine import EngineOptions
from hybrid.storage.file_identity import absolute_path
from hybrid.values import IntArray
from indexes.archive.content_id import remembered
from indexes.archive.reader import ArchiveReader
from indexes.format.layout import Layout
from indexes.format.manifest import Manifest, differences

if TYPE_CHECKING:
    from hybrid.fine.feature_maker import FeatureMaker

__all__ = ["RunEstimate", "estimate_run"]

_USUAL_DIMENSION = 512
_BYTES_A_FRAME = 26
"""Of a timeline: ordinal, time and frame number; and the share of what else a video has."""


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a run would take.

    Attributes:
        videos: how many were named.
        indexed: how many are indexed already, as far as can be told without reading them.
        replaced: how many have an index of another configuration, which would be made anew.
        changes: what is different from those indexes, one line each.
        unopenable: videos that cannot be opened, each with the reason.
        hours: of video that is to be indexed, as the containers state it.
        frames: how many samples that is.
        disk_bytes: what their indexes will take.
        seconds: how long it will take with one worker; None if nothing was indexed here yet that would tell.
        basis: what the figures rest on.
        features: how many frames' features of the sampler are to be made, where the run makes any.
        feature_bytes: what these will take on disk, besides; None if that is not known.
        features_note: why it is not known how many are to be made, or why the run could not make any.
    """

    videos: int
    indexed: int
    replaced: int
    changes: tuple[str, ...]
    unopenable: tuple[str, ...]
    hours: float
    frames: int
    disk_bytes: int
    seconds: float | None
    basis: str
    features: int = 0
    feature_bytes: int | None = 0
    features_note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


def estimate_run(
    archive: ArchiveReader | None, videos: Sequence[Path], settings: EngineOptions, *, features: bool | None = None
) -> RunEstimate:
    """Estimate a run from what the containers state and from what the archive took so far.

    Args:
        archive: where the run would index to; None if there is none yet.
        videos: what it would be given.
        settings: what it would be done with. Models are known by their names and files; none is loaded.
        features: whether it makes features of the sampler; None: if settings name one.

    Raises:
        InputError: the settings are not legal.
    """
    settings.check()
    manifests = [] if archive is None else list(archive.manifests())
    by_id = {manifest.video_id: manifest for manifest in manifests}
    by_location = {location: manifest for manifest in manifests for location in manifest.source.locations}
    indexed, replaced, hours, frames = 0, 0, 0.0, 0
    unopenable: list[str] = []
    changes: dict[str, None] = {}
    samples_a_second = settings.new_sampling.rate
    counted = _Features(settings) if (settings.sampler is not None if features is None else features) else None
    for video in videos:
        stored = None if archive is None else _stored(archive, video, by_id, by_location)
        rate = samples_a_second
        if stored is not None:
            changed = _changes(settings, stored) or _other_frames(stored, video)
            rows = None if changed or archive is None else _sound_rows(archive, stored)
            if rows is not None and archive is not None:
                indexed += 1
                if counted is not None:
                    counted.add_missing(archive, stored, rows)
                continue
            replaced += bool(changed)
            changes.update(dict.fromkeys(changed))
            rate = settings.rate or stored.config.rate
        try:
            length = probe_seconds(video) or 0.0
        except VideoOpenError as exc:
            unopenable.append(str(exc))
            continue
        hours += length / 3600
        frames += max(1, math.ceil(length * rate))
    dimension = max((manifest.dimension for manifest in manifests), default=_USUAL_DIMENSION)
    spent = sum(sum(manifest.seconds.values()) for manifest in manifests)
    done = sum(manifest.frames for manifest in manifests)
    prefix = "as indexed, otherwise " if settings.rate is None and replaced else ""
    if counted is not None:
        counted.frames += frames
    basis = f"stated lengths, samples a second: {prefix}{samples_a_second:g}, {dimension} values a vector"
    if spent:
        basis += f", {done / spent:.1f} frames a second as for the {done} frames that are indexed here"
    else:
        basis += "; how fast it goes is not known before something was indexed here"
    return RunEstimate(
        videos=len(videos),
        indexed=indexed,
        replaced=replaced,
        changes=tuple(changes),
        unopenable=tuple(unopenable),
        hours=hours,
        frames=frames,
        disk_bytes=frames * (2 * dimension + _BYTES_A_FRAME) + 2_000 * (len(videos) - indexed - len(unopenable)),
        seconds=frames * spent / done if spent and done else None,
        basis=basis,
        **({} if counted is None else counted.fields()),
    )


class _Features:
    """Counts the frames whose features a run has to make."""

    def __init__(self, settings: EngineOptions) -> None:
        self.frames = 0
        self._maker: FeatureMaker | None = None
        self._note: str | None = None
        with self._noted():
            self._maker = feature_maker_of(settings)

    def add_missing(self, archive: ArchiveReader, manifest: Manifest, rows: IntArray) -> None:
        """Those of a video that is indexed; ``rows``: one for each of its frames."""
        maker = self._maker
        if maker is None:
            return
        with self._noted():
            weights = KnownWeights(archive.folder, look_only=True)
            own = [listed for listed in archive.feature_lists(manifest) if maker.made(listed.spec.identity, weights)]
            self.frames += len(rows) - max((int(listed.present[rows].sum()) for listed in own), default=0)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """What keeps the features from being counted, or made, is prefix instead of them."""
        try:
            yield
        except CheckpointNotHereError as exc:
            self._maker, self._note = None, f"how many are to be made is not known: {exc}; the run would download it"
        except (ModelError, InputError, MissingDependencyError) as exc:
            self._maker, self._note = None, f"the run could not make any: {exc}"

    def fields(self) -> dict[str, Any]:
        """What the estimate says of them."""
        if self._maker is None:
            return {"feature_bytes": None, "features_note": self._note}
        each = self._maker.frame_bytes
        return {"features": self.frames, "feature_bytes": None if each is None else self.frames * each}


def _stored(
    archive: ArchiveReader, video: Path, by_id: Mapping[str, Manifest], by_location: Mapping[str, Manifest]
) -> Manifest | None:
    """The index that there is of a video, as far as can be told without reading it."""
    known = remembered(video, cache=Layout(archive.folder).known_paths)
    if known is not None:
        return by_id.get(known)
    manifest = by_location.get(absolute_path(video))
    if manifest is None or not video.is_file():
        return None
    # Not remembered by the last reading: the same path and the same length will do for an estimate.
    return manifest if video.stat().st_size == manifest.source.size_bytes else None


def _sound_rows(archive: ArchiveReader, stored: Manifest) -> IntArray | None:
    """The first row of each of a video's frames; None if its index is damaged or gone, so that it is made anew."""
    try:
        if archive.up_to_date(stored.video_id, stored.config) is None:
            return None
        return archive.timeline(stored).distinct_rows()
    except (IndexDamagedError, VideoNotIndexedError):
        return None


def _other_frames(stored: Manifest, video: Path) -> list[str]:
    try:
        reason = frames_changed(stored, video)
    except VideoError:  # is counted where the video is probed, or is none of this estimate's
        return []
    return [] if reason is None else [f"frames: {reason}"]


def _changes(settings: EngineOptions, stored: Manifest) -> list[str]:
    """What sets an index apart from the one that these settings would make, as far as the names of models tell."""
    identity = dict(stored.config.encoder)
    if settings.dtype != "auto" and "precision" in identity:
        identity["precision"] = settings.dtype
    requested = requested_config(settings, identity, kind=stored.video.kind, stored=stored)
    name = settings.encoder_name
    return [*name_changes(name, stored), *differences(stored.config, requested)]
