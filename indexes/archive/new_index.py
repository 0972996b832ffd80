"""The index of one video before it is stored: its parts, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from hybrid.errors import InputError
from hybrid.values import Float32Array, Timeline
from hybrid.version import __version__
from indexes.format.layout import check_video_id
from indexes.format.manifest import (
    FORMAT_VERSION,
    IndexConfig,
    IndexedVideo,
    IndexStatus,
    Manifest,
    Source,
    generation_of,
)
from indexes.format.timeline_file import timeline_from_bytes, timeline_hash
from indexes.stores.vectors import checksum_vectors, hash_vectors, is_hash_of, round_vectors

__all__ = ["NewIndex", "check_parts"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NewIndex:
    """The index of one video, ready to be committed.

    Attributes:
        timeline: N samples, N >= 1.
        vectors: float32 [N, D] unit vectors; row ``i`` belongs to entry ``i`` of the timeline.
        config: how it was made.
        source: where the video lies.
        video: what the decoder found.
        status: ``done`` or ``partial``; by default ``partial`` if samples are missing.
        note: what else should be known of it.
        seconds: time spent by stage.
        frame_rules: see :class:`~indexes.format.manifest.Manifest`.
    """

    timeline: Timeline
    vectors: Float32Array
    config: IndexConfig
    source: Source
    video: IndexedVideo
    status: IndexStatus | None = None
    note: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    frame_rules: int = 1

    def manifest(self, video_id: str, times: bytes) -> Manifest:
        """The manifest of this index; ``times``: the content of its timeline file.

        Raises:
            InputError: lengths, shapes or values do not fit.
        """
        rounded = round_vectors(self.vectors)
        if len(rounded) != len(self.timeline):
            raise InputError(f"there are {len(rounded)} vectors for {len(self.timeline)} samples")
        vectors_hash, times_hash = hash_vectors(rounded), timeline_hash(times)
        return Manifest(
            format_version=FORMAT_VERSION,
            video_id=check_video_id(video_id),
            generation=generation_of(vectors_hash, times_hash),
            fingerprint=self.config.fingerprint,
            config=self.config,
            source=self.source,
            video=self.video,
            frames=len(self.timeline),
            dimension=rounded.shape[1],
            missing=len(self.timeline.missing),
            status=self.status or ("partial" if self.timeline.missing else "done"),
            note=self.note,
            frame_rules=self.frame_rules,
            vectors_hash=vectors_hash,
            vectors_checksum=checksum_vectors(rounded),
            timeline_hash=times_hash,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            hybrid_version=__version__,
            seconds=dict(self.seconds),
        )


def check_parts(manifest: Manifest, *, timeline: bytes, vectors: Float32Array) -> None:
    """Refuse a manifest, the content of a timeline file and vectors that are not one index.

    Raises:
        InputError: timeline or vectors are not those of the manifest, or it contradicts itself.
    """
    rounded = round_vectors(vectors)
    fitting = all(is_hash_of(rounded, known) for known in manifest.vectors_hashes)
    if not fitting or rounded.shape != (manifest.frames, manifest.dimension):
        raise InputError(f"the vectors are not those of the manifest of video {manifest.video_id}")
    if timeline_hash(timeline) != manifest.timeline_hash:
        raise InputError(f"the timeline is not that of the manifest of video {manifest.video_id}")
    fault = manifest.fault(timeline_from_bytes(timeline, where=f"video {manifest.video_id}"))
    if fault is not None:
        raise InputError(f"the index of video {manifest.video_id} contradicts itself: {fault}")
