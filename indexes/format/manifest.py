"""The manifest of one video's index: what was indexed, how, and which files hold it.

It is written last, so a video without a manifest has no index. Validated where it enters (a file).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

import blake3
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hybrid.errors import IndexDamagedError
from hybrid.storage.file_identity import absolute_path
from hybrid.storage.foreign_json import ForeignJsonError, parse_json
from hybrid.values import LARGEST_RATE, LARGEST_SIDE, LONGEST_SECONDS, MOST_FRAMES, SamplingPolicy, Timeline
from indexes.format.layout import VIDEO_ID, VectorKey

__all__ = [
    "FORMAT_VERSION",
    "Committed",
    "IndexConfig",
    "IndexStatus",
    "IndexedVideo",
    "Manifest",
    "Source",
    "changed_values",
    "differences",
    "generation_of",
    "parse_manifest",
]

FORMAT_VERSION: Final = 1
"""Of everything under an archive's folder. docs/format.md describes it."""

IndexStatus = Literal["done", "partial"]

Scalar = str | int | float | bool | None

HEXADECIMAL = r"^[0-9a-f]{1,64}$"

LARGEST_DIMENSION = 2**16


MOST_RULES = 1000
"""No version of the rules for reading frames is higher."""

MOST_PATHS = 10_000
"""Further paths of one content."""

_LONGEST_PATH = 2**15
_LONGEST_NOTE = 2**16


def _legal_path(path: str) -> str:
    # Not by pydantic's own limits: they refuse names that are not text, which file systems have.
    if not 0 < len(path) <= _LONGEST_PATH:
        raise ValueError(f"a path has 1 to {_LONGEST_PATH} characters, not {len(path)}")
    if "\0" in path:
        raise ValueError("a path cannot hold a zero byte")
    return path


def _legal_note(note: str) -> str:
    if len(note) > _LONGEST_NOTE:
        raise ValueError(f"a note has at most {_LONGEST_NOTE} characters, not {len(note)}")
    return note


_Seconds = Annotated[float, Field(ge=0, le=LONGEST_SECONDS)]
_Side = Annotated[int, Field(ge=0, le=LARGEST_SIDE)]
_Path = Annotated[str, AfterValidator(_legal_path)]
_Note = Annotated[str, AfterValidator(_legal_note)]
_Label = Annotated[str, Field(max_length=200)]


class _Value(BaseModel):
    """Frozen, and NaN refused. Fields that a later minor version may add are passed over."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class IndexConfig(_Value):
    """Everything that decides an index's content, apart from the video.

    Attributes:
        encoder: identity of the CLIP encoder: model, weight hash, preprocessing, precision ...
        rate: samples per second.
        policy: ``exact`` or ``keyframes``.
        decoder: ``pyav``, ``decord`` or ``folder``.
    """

    encoder: dict[str, Scalar]
    rate: Annotated[float, Field(gt=0, le=LARGEST_RATE)]
    policy: SamplingPolicy
    decoder: _Label

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: equal for equal configurations and the same format version."""
        document = {"format_version": FORMAT_VERSION, **self.model_dump(mode="json")}
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return blake3.blake3(canonical.encode()).hexdigest(length=16)


class Source(_Value):
    """Where the video lay when it was last given to ``index``. It is known by its content, not by this.

    Attributes:
        path: from the root on.
        size_bytes: of the file, or of the folder's files.
        also: further paths where the same content was met.
    """

    path: _Path
    size_bytes: int = Field(ge=0, lt=2**63)
    also: tuple[_Path, ...] = Field(default=(), max_length=MOST_PATHS)

    @property
    def location(self) -> str:
        """The path without ``..``, which earlier versions wrote into some manifests."""
        return _one_name(self.path)

    @property
    def locations(self) -> tuple[str, ...]:
        """All paths without ``..``, each once; :attr:`location` first."""
        return tuple(dict.fromkeys(map(_one_name, (self.path, *self.also))))

    def only_at(self, locations: Sequence[str]) -> Source:
        """The same, with some of its locations only, at least one."""
        return Source(path=locations[0], size_bytes=self.size_bytes, also=tuple(locations[1:]))


def _one_name(path: str) -> str:
    return absolute_path(path) if ".." in path else path


class IndexedVideo(_Value):
    """What the decoder reported of the video (see :class:`hybrid.values.VideoInfo`)."""

    kind: Literal["file", "folder"]
    duration_seconds: _Seconds
    width: _Side
    height: _Side
    codec: _Label


class Committed(NamedTuple):
    """What is known of committed vectors, so that others that are read instead are recognised.

    Attributes:
        vectors_hash: what writing them returned, or :func:`indexes.stores.vectors.checksum_vectors` of the same.
        rows: how many there are.
    """

    vectors_hash: str
    rows: int


class Manifest(_Value):
    """One complete index of one video.

    Attributes:
        format_version: :data:`FORMAT_VERSION` of the writer.
        video_id: content id.
        generation: which vectors and timeline this manifest refers to; follows from their content.
        fingerprint: of ``config``.
        config: how it was indexed.
        source: where the video lay.
        video: what the decoder reported.
        frames: number of rows.
        dimension: values a vector.
        missing: samples that could not be decoded.
        status: ``partial`` if the video could not be read to its end or has missing samples.
        note: what else should be known, or None.
        frame_rules: the version of the rules for reading frames (:mod:`hybrid.frames.rules`) by which it was made, or
            by which its frames are known to be the same; early versions wrote none, which is 1.
        vectors_hash: see :func:`indexes.stores.vectors.hash_vectors`.
        vectors_checksum: see :func:`indexes.stores.vectors.checksum_vectors`; early versions wrote none.
        timeline_hash: BLAKE3 of the timeline file, 32 hexadecimal digits.
        created_at: UTC, ISO 8601.
        hybrid_version: version of the writer.
        seconds: time spent by stage.
    """

    format_version: Literal[1]
    video_id: str = Field(pattern=f"^{VIDEO_ID}$")
    generation: str = Field(pattern=HEXADECIMAL)
    fingerprint: str = Field(pattern=HEXADECIMAL)
    config: IndexConfig
    source: Source
    video: IndexedVideo
    frames: int = Field(ge=1, le=MOST_FRAMES)
    dimension: int = Field(ge=1, le=LARGEST_DIMENSION)
    missing: int = Field(ge=0, le=MOST_FRAMES)
    status: IndexStatus
    note: _Note | None = None
    frame_rules: int = Field(default=1, ge=1, le=MOST_RULES)
    vectors_hash: str = Field(pattern=HEXADECIMAL)
    vectors_checksum: str | None = Field(default=None, pattern=r"^xxh3:[0-9a-f]{32}$")
    timeline_hash: str = Field(pattern=HEXADECIMAL)
    created_at: _Label
    hybrid_version: _Label
    seconds: dict[str, _Seconds] = Field(default_factory=dict)

    @property
    def key(self) -> VectorKey:
        """The name of the vectors in the store."""
        return VectorKey(self.video_id, self.generation)

    @property
    def vectors_hashes(self) -> tuple[str, ...]:
        """All hashes of the vectors, the quickest one to compute last."""
        return (self.vectors_hash,) if self.vectors_checksum is None else (self.vectors_hash, self.vectors_checksum)

    @property
    def quickest_hash(self) -> str:
        """What vectors are compared with whenever they are opened."""
        return self.vectors_hashes[-1]

    @property
    def committed(self) -> Committed:
        """What the vectors are known by in the store."""
        return Committed(self.quickest_hash, self.frames)

    def to_bytes(self) -> bytes:
        """The content of the manifest file: JSON, UTF-8, with a digest of all the rest."""
        document = self.model_dump(mode="json")
        return (json.dumps({**document, "digest": _digest_of(document)}, indent=2) + "\n").encode()

    def fault(self, timeline: Timeline) -> str | None:
        """What of it does not follow from its configuration, its hashes and its timeline; None if all does."""
        if self.fingerprint != self.config.fingerprint:
            return "fingerprint and configuration do not fit"
        if self.generation != generation_of(self.vectors_hash, self.timeline_hash):
            return "generation and hashes do not fit"
        if len(timeline) != self.frames or len(timeline.missing) != self.missing:
            return "manifest and timeline disagree on the number of frames"
        if (timeline.sampling.rate, timeline.sampling.policy) != (self.config.rate, self.config.policy):
            return "configuration and timeline disagree on the sampling"
        return None


def generation_of(vectors_hash: str, timeline_hash: str) -> str:
    """The name of vectors and a timeline with these hashes: 16 hexadecimal digits."""
    return blake3.blake3(f"{vectors_hash} {timeline_hash}".encode()).hexdigest(length=8)


def parse_manifest(data: bytes, *, where: str, video_id: str | None = None, signed: bool = True) -> Manifest:
    """Read a manifest file's content.

    Args:
        data: the bytes of the file.
        where: its path, for the error.
        video_id: whose manifest it should be; None if that is not known.
        signed: whether the digest in it is compared; not needed where the caller knows the bytes by another one.

    Raises:
        IndexDamagedError: it is not JSON, lacks something, is another video's, or was changed since it was
            written, as the digest in it tells (early versions wrote none).
    """
    try:
        document = parse_json(data, where=where, names=True)
    except ForeignJsonError as exc:
        raise IndexDamagedError(f"{exc}; this is not a manifest") from exc
    if signed:
        _check_digest(document, where=where)
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise IndexDamagedError(f"{where}: not a manifest: {field}: {first['msg']}") from exc
    if video_id not in (None, manifest.video_id):
        raise IndexDamagedError(f"{where}: this manifest is of video {manifest.video_id}")
    return manifest


def _check_digest(document: Any, *, where: str) -> None:
    """Compare a manifest's document with the digest that stands in it."""
    if not isinstance(document, dict):
        return
    rest = {name: value for name, value in document.items() if name != "digest"}
    digest = document.get("digest")
    # Versions that wrote no digest wrote no checksum either: where only the digest is lacking, its name was changed.
    lacking = digest is None and "vectors_checksum" in document
    if lacking or (digest is not None and digest != _digest_of(rest)):
        raise IndexDamagedError(f"{where}: the manifest is not what was written")


def _digest_of(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return blake3.blake3(text.encode()).hexdigest(length=16)


def differences(stored: IndexConfig, requested: IndexConfig) -> list[str]:
    """What sets two configurations apart, one line each: ``name: stored -> requested``."""
    return changed_values(_flat(stored), _flat(requested))


def changed_values(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """The values that two mappings do not share, one line each: ``name: before -> after``."""
    return [
        f"{name}: {before.get(name, '(absent)')} -> {after.get(name, '(absent)')}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def _flat(config: IndexConfig) -> Mapping[str, object]:
    document = config.model_dump(mode="json")
    encoder = document.pop("encoder")
    return {**{f"encoder.{name}": value for name, value in encoder.items()}, **document}
