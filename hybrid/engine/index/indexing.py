"""Index one video: decode, embed, write; the manifest last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hybrid.clip.interface import FrameEncoder
from hybrid.engine.features.encoder import Tower
from hybrid.engine.frames.decode_ahead import DecodeAhead, Decoding
from hybrid.engine.settings import stored_decoder
from hybrid.errors import FrameDecodeError, ModelError, VideoError, VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.interface import ReadReport
from hybrid.frames.rules import FRAME_RULES
from hybrid.progress import Progress
from hybrid.runtime import model_errors
from hybrid.storage.atomic import write_errors
from hybrid.storage.file_identity import absolute_path
from hybrid.values import ByteArray, Float32Array, FrameBatch, Sampling, Timeline, VideoInfo
from indexes.archive.feature_file import StagedFeatures
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.failures import forget_failure
from indexes.format.feature_list import FeatureItem
from indexes.format.manifest import IndexConfig, IndexedVideo, Manifest, Source

__all__ = ["FeatureTap", "IndexResult", "end_failure", "index_video", "place_of", "unchanged"]


@dataclass(frozen=True, slots=True)
class IndexResult:
    """What indexing one video did.

    Attributes:
        video: the path.
        video_id: its content id.
        outcome: ``indexed``: the work was done; ``unchanged``: there was nothing to do.
        status: ``done``, or ``partial`` if some of the video could not be read.
        frames: rows of the index.
        missing: samples that could not be had.
        duration_seconds: length of the video.
        frames_decoded: frames that were decoded now (0 if unchanged).
        seconds: time by part.
        note: what else should be known.
        changed: what was different from the index that it replaced, one line each.
        features: how many frames GenS's features were made and stored of now.
        features_note: why they were not made although they were wanted.
    """

    video: str
    video_id: str
    outcome: Literal["indexed", "unchanged"]
    status: Literal["done", "partial"]
    frames: int
    missing: int
    duration_seconds: float
    frames_decoded: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    note: str | None = None
    changed: tuple[str, ...] = ()
    features: int = 0
    features_note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


def unchanged(path: str, manifest: Manifest) -> IndexResult:
    """The result where the index that is there is the one that is wanted."""
    return IndexResult(
        video=path,
        video_id=manifest.video_id,
        outcome="unchanged",
        status=manifest.status,
        frames=manifest.frames,
        missing=manifest.missing,
        duration_seconds=manifest.video.duration_seconds,
        frames_decoded=0,
        note=manifest.note,
    )


class FeatureTap:
    """Feeds GenS's vision tower with the frames that the index's decoding gives anyway.

    Attributes:
        note: why it gave up; None as long as it did not.
    """

    def __init__(self, tower: Tower, staged: StagedFeatures, *, must: bool) -> None:
        """``must``: a tower that fails is an error; otherwise it is a note, and the index goes on."""
        self.tower, self.staged = tower, staged
        self.note: str | None = None
        self._must = must

    @property
    def seconds(self) -> float:
        """For how long the encoder of the index waited for it."""
        return self.tower.total_seconds

    def push(self, frame: ByteArray) -> None:
        """Take the next distinct frame."""
        self._keep(lambda: self.tower.push(frame))

    def finish(self) -> StagedFeatures | None:
        """What is to be committed; None if it gave up."""
        self._keep(self.tower.flush)
        return None if self.note else self.staged

    def _keep(self, make: Callable[[], list[FeatureItem]]) -> None:
        if self.note:
            return
        try:
            with model_errors("the sampler"):
                items = make()
        except ModelError as exc:
            if self._must:
                raise
            self.note = f"features were not made: {exc}"
            return
        with write_errors("the features could not be written"):
            self.staged.add(items)


def end_failure(archive: Archive, video_id: str, path: Path) -> None:
    """Delete the records of failures of a path or content that is indexed now.

    Raises:
        ArchiveError: the archive cannot be written.
    """
    with write_errors(f"archive {archive.uri} cannot be written"):
        forget_failure(archive.folder, video_id, absolute_path(path), drop=archive.drop_file)


def index_video(
    archive: Archive,
    video_id: str,
    path: Path,
    encoder: FrameEncoder,
    config: IndexConfig,
    *,
    ahead: DecodeAhead,
    progress: Progress,
    following: Sequence[Path] = (),
    changed: tuple[str, ...] = (),
    other_frames: bool = False,
    features: FeatureTap | None = None,
) -> IndexResult:
    """Decode and embed a video and commit its index.

    Args:
        archive: the caller holds the video's lock.
        video_id: content id of what lies at ``path``.
        path: file or folder.
        encoder: loaded, with the identity that ``config`` states.
        config: how to index.
        ahead: may have begun to decode it.
        progress: is told how far it is.
        following: the videos that will be indexed next.
        changed: what is different from the index that this one replaces.
        other_frames: whether that one is of other frames of the same file.
        features: makes GenS's features of the same frames.

    Raises:
        VideoError: it cannot be opened, nothing of it can be decoded, or it changed meanwhile.
        OutOfMemoryError: the encoder's batch does not fit on its device.
    """
    sampling = Sampling(rate=config.rate, policy=config.policy)
    started = time.perf_counter()
    decoder = stored_decoder(config, path)
    progress.stage("open")
    with ahead.decode(path, video_id, sampling, decoder, following=following) as decoding:
        opened = time.perf_counter()
        info = decoding.source.info
        progress.expect(_samples(info, sampling))
        progress.stage("embed")
        columns = _Columns()
        vectors = _embed(decoding, encoder, columns, progress, features)
        staged = None if features is None else features.finish()
        report = decoding.source.report()
    if len(vectors) == 0:
        raise FrameDecodeError(f"{path}: no frame could be decoded{': ' + report.note if report.note else ''}")
    embedded = time.perf_counter()
    # Also against a false id in the cache: under it the index would stay.
    if archive.identify(path, from_cache=False) != video_id:
        raise VideoError(f"{path} was changed while it was indexed, nothing was stored; run the same command again")
    progress.stage("write")
    timeline = Timeline(
        ordinals=np.array(columns.ordinals, dtype=np.int64),
        pts_seconds=np.array(columns.pts_seconds, dtype=np.float64),
        frame_numbers=np.array(columns.frame_numbers, dtype=np.int64),
        sampling=sampling,
        duration_seconds=report.duration_seconds,
        missing=report.missing,
    )
    seconds = {
        "open": opened - started,
        # Decoding runs ahead in threads; this is the time for which the encoder had to wait for it.
        "wait_for_frames": columns.waited_seconds,
        "embed": embedded - opened - columns.waited_seconds - (features.seconds if features else 0.0),
        **({"features": features.seconds} if features else {}),
    }
    manifest = archive.commit(
        video_id,
        NewIndex(
            timeline=timeline,
            vectors=vectors,
            config=config,
            source=place_of(path),
            video=IndexedVideo(
                kind=info.kind,
                duration_seconds=report.duration_seconds,
                width=columns.size[0] or info.width,
                height=columns.size[1] or info.height,
                codec=info.codec,
            ),
            status="partial" if report.cut or report.missing else "done",
            note=_note(report),
            seconds=seconds,
            frame_rules=FRAME_RULES,
        ),
        other_frames=other_frames,
        features=staged,
    )
    return IndexResult(
        video=str(path),
        video_id=video_id,
        outcome="indexed",
        status=manifest.status,
        frames=manifest.frames,
        missing=manifest.missing,
        duration_seconds=manifest.video.duration_seconds,
        frames_decoded=report.frames_decoded,
        seconds={**seconds, "write": time.perf_counter() - embedded},
        note=manifest.note,
        changed=changed,
        features=0 if staged is None else len(staged),
        features_note=None if features is None else features.note,
    )


@dataclass(slots=True)
class _Columns:
    """What is known of each sample, as it comes."""

    ordinals: list[int] = field(default_factory=list)
    pts_seconds: list[float] = field(default_factory=list)
    frame_numbers: list[int] = field(default_factory=list)
    vector_of: list[int] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    waited_seconds: float = 0.0


def _embed(
    decoding: Decoding, encoder: FrameEncoder, columns: _Columns, progress: Progress, features: FeatureTap | None
) -> Float32Array:
    frames = _distinct(decoding.batches(), columns, progress)
    blocks = list(encoder.encode_frames(frames if features is None else _tapped(frames, features)))
    if not blocks:
        return np.zeros((0, 0), dtype=np.float32)
    vectors: Float32Array = np.concatenate(blocks)[columns.vector_of]
    return vectors


def _tapped(frames: Iterator[ByteArray], features: FeatureTap) -> Iterator[ByteArray]:
    """The same frames; GenS's vision tower has seen each before the encoder does."""
    for frame in frames:
        features.push(frame)
        yield frame


def _distinct(batches: Iterator[FrameBatch], columns: _Columns, progress: Progress) -> Iterator[ByteArray]:
    """The frames in order; one that is held over several samples is given (and embedded) once."""
    distinct = 0
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        columns.waited_seconds += time.perf_counter() - asked
        if batch is None:
            return
        columns.size = (batch.rgb.shape[2], batch.rgb.shape[1])
        for i in range(len(batch)):
            held = bool(columns.pts_seconds) and columns.pts_seconds[-1] == batch.pts_seconds[i]
            columns.ordinals.append(int(batch.ordinals[i]))
            columns.pts_seconds.append(float(batch.pts_seconds[i]))
            columns.frame_numbers.append(int(batch.frame_numbers[i]))
            if not held:
                distinct += 1
                yield batch.rgb[i]
            columns.vector_of.append(distinct - 1)
        progress.advance(len(batch))


def _samples(info: VideoInfo, sampling: Sampling) -> int | None:
    """How many samples to expect; None where that shows only while decoding."""
    if info.duration_seconds is None or sampling.policy == "keyframes":
        return None
    return max(1, int(np.ceil(info.duration_seconds * sampling.rate)))


def place_of(path: Path) -> Source:
    """Where a video lies, and how large it is.

    Raises:
        VideoOpenError: it is gone.
    """
    try:
        files = [entry for entry in path.iterdir() if entry.is_file()] if path.is_dir() else [path]
        return Source(path=absolute_path(path), size_bytes=sum(file.stat().st_size for file in files))
    except OSError as exc:
        raise VideoOpenError(f"{path} cannot be read any more: {exc.strerror or exc}") from exc


def _note(report: ReadReport) -> str | None:
    parts = [report.note] if report.note else []
    if report.packets_damaged:
        parts.append(plural(report.packets_damaged, "damaged packet"))
    if report.missing:
        parts.append(f"{plural(len(report.missing), 'sample is', 'samples are')} missing")
    return "; ".join(parts) or None
