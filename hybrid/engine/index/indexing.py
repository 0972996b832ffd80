"""Index one video: decode, embed, write; the manifest last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hybrid.clip.interface import FrameEncoder
from hybrid.engine.features.encoder import Tower
from hybrid.engine.frames.decode_ahead import Decoding, VideoPrefetcher
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

__all__ = ["FeatureWriter", "IndexJob", "IndexResult", "end_failure", "index_video", "source_of", "unchanged"]


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
        features_note: why they were not made although they were requested.
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
    """The result where the index that is there is the one that is requested."""
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


class FeatureWriter:
    """Feeds GenS's vision encoder with the frames that the index's decoding gives anyway.

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


@dataclass(frozen=True, slots=True)
class IndexJob:
    """A video that is to be indexed.

    Attributes:
        archive: the caller holds the video's lock.
        video_id: content id of what lies at ``path``.
        path: file or folder.
        config: how to index.
        progress: receives how far it is.
        prefetcher: may have begun to decode it.
        following: the videos that will be indexed next.
    """

    archive: Archive
    video_id: str
    path: Path
    config: IndexConfig
    progress: Progress
    prefetcher: VideoPrefetcher
    following: Sequence[Path] = ()


def index_video(
    job: IndexJob,
    encoder: FrameEncoder,
    *,
    changed: tuple[str, ...] = (),
    other_frames: bool = False,
    features: FeatureWriter | None = None,
) -> IndexResult:
    """Decode and embed a video and commit its index.

    Args:
        job: the video.
        encoder: loaded, with the identity that the job's configuration has.
        changed: what is different from the index that this one replaces.
        other_frames: whether that one is of other frames of the same file.
        features: makes GenS's features of the same frames.

    Raises:
        VideoError: it cannot be opened, nothing of it can be decoded, or it changed meanwhile.
        OutOfMemoryError: the encoder's batch does not fit on its device.
    """
    columns, seconds = _Columns(), dict[str, float]()
    started = time.perf_counter()
    info, vectors, report = _decode(job, encoder, columns, features, seconds)
    staged = None if features is None else features.finish()
    if len(vectors) == 0:
        raise FrameDecodeError(f"{job.path}: no frame could be decoded{': ' + report.note if report.note else ''}")
    embedded = time.perf_counter()
    seconds["embed"] = embedded - started - sum(seconds.values()) - (features.seconds if features else 0.0)
    if features:
        seconds["features"] = features.seconds
    # Also against a false id in the cache: under it the index would stay.
    if job.archive.identify(job.path, from_cache=False) != job.video_id:
        raise VideoError(f"{job.path} was changed while it was indexed, nothing was stored; run the same command again")
    job.progress.stage("write")
    new = NewIndex(
        timeline=columns.timeline(_sampling(job.config), report),
        vectors=vectors,
        config=job.config,
        source=source_of(job.path),
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
    )
    manifest = job.archive.commit(job.video_id, new, other_frames=other_frames, features=staged)
    return replace(
        unchanged(str(job.path), manifest),
        outcome="indexed",
        frames_decoded=report.frames_decoded,
        seconds={**seconds, "write": time.perf_counter() - embedded},
        changed=changed,
        features=0 if staged is None else len(staged),
        features_note=None if features is None else features.note,
    )


def _sampling(config: IndexConfig) -> Sampling:
    return Sampling(rate=config.rate, policy=config.policy)


def _decode(
    job: IndexJob, encoder: FrameEncoder, columns: _Columns, features: FeatureWriter | None, seconds: dict[str, float]
) -> tuple[VideoInfo, Float32Array, ReadReport]:
    """Open a video, decode and embed its samples: what it is, float32 [samples, dimension], and how reading went."""
    sampling, started = _sampling(job.config), time.perf_counter()
    decoder = stored_decoder(job.config, job.path)
    job.progress.stage("open")
    with job.prefetcher.decode(job.path, job.video_id, sampling, decoder, following=job.following) as decoding:
        seconds["open"] = time.perf_counter() - started
        info = decoding.source.info
        job.progress.expect(_samples(info, sampling))
        job.progress.stage("embed")
        vectors = _embed(decoding, encoder, columns, job.progress, features)
        # Decoding runs ahead in threads; this is the time for which the encoder had to wait for it.
        seconds["wait_for_frames"] = columns.waited_seconds
        return info, vectors, decoding.source.report()


@dataclass(slots=True)
class _Columns:
    """What is known of each sample, as it comes."""

    ordinals: list[int] = field(default_factory=list)
    pts_seconds: list[float] = field(default_factory=list)
    frame_numbers: list[int] = field(default_factory=list)
    vector_of: list[int] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    waited_seconds: float = 0.0

    def timeline(self, sampling: Sampling, report: ReadReport) -> Timeline:
        """The times of all samples."""
        return Timeline(
            ordinals=np.array(self.ordinals, dtype=np.int64),
            pts_seconds=np.array(self.pts_seconds, dtype=np.float64),
            frame_numbers=np.array(self.frame_numbers, dtype=np.int64),
            sampling=sampling,
            duration_seconds=report.duration_seconds,
            missing=report.missing,
        )


def _embed(
    decoding: Decoding, encoder: FrameEncoder, columns: _Columns, progress: Progress, features: FeatureWriter | None
) -> Float32Array:
    frames = _distinct(decoding.batches(), columns, progress)
    blocks = list(encoder.encode_frames(frames if features is None else _with_features(frames, features)))
    if not blocks:
        return np.zeros((0, 0), dtype=np.float32)
    vectors: Float32Array = np.concatenate(blocks)[columns.vector_of]
    return vectors


def _with_features(frames: Iterator[ByteArray], features: FeatureWriter) -> Iterator[ByteArray]:
    """The same frames; GenS's vision encoder has seen each before the encoder does."""
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


def source_of(path: Path) -> Source:
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
