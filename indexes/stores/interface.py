"""The interface of a vector store: the vectors of many videos, searched exactly one video at a time.

A store holds vectors and nothing else, under keys of (video, generation). Which of them count is
the archive's knowledge (its manifests, written last), not the store's: a store may hold vectors
that no manifest refers to, because their writing was cut short or a newer generation took over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hybrid.errors import IndexDamagedError
from hybrid.values import Float32Array, Hits, IntArray
from indexes.format.layout import VectorKey
from indexes.format.manifest import Committed
from indexes.stores.vectors import RunProofs, similarities

__all__ = ["DEFAULT_CACHE_BYTES", "Found", "Scored", "VectorStore"]

DEFAULT_CACHE_BYTES = 256 * 2**20
"""How many bytes of vectors stay in memory for the next question: 20 hours of 512-d at 1 fps are 74 MB."""


class Found(NamedTuple):
    """What searching one video of many gave: hits, or the error that it would have raised."""

    key: VectorKey
    hits: Hits | None
    error: IndexDamagedError | None


class Scored(NamedTuple):
    """The similarities of some rows of one video, or the error that reading them raised."""

    key: VectorKey
    similarities: Float32Array | None
    error: IndexDamagedError | None


class VectorStore(ABC):
    """Vectors of many videos. Stored as float16; every method speaks float32.

    Every implementation gives the result of numpy on the stored (float16-rounded) vectors and the
    float32 query: the same rows up to ties, where "tie" means similarities closer than 1e-6, and
    equal similarities in order of rows (the earlier frame first). Rows with identical vectors have
    identical similarities.

    A store keeps its files in the archive's folder: in the videos' folders under names that begin with
    ``vectors-``, or in folders of its own whose names begin with ``frames_`` or ``vectors_``.
    """

    name: ClassVar[str]
    """The name of the backend, under which the registry lists the class."""

    damage_remedy: ClassVar[str] = ""
    """What mends damaged vectors where it is not enough to index the video again; a clause for a message."""

    @abstractmethod
    def __init__(self, folder: Path, **options: Any) -> None:
        """Open the store of an archive; nothing is written before the first :meth:`write`.

        Args:
            folder: the archive's folder.
            options: of the store's own; each has a default.
        """

    @abstractmethod
    def write(self, key: VectorKey, vectors: Float32Array) -> str:
        """Store vectors, replacing any under this key: durable and complete when it returns.

        Vectors under other keys, those of the same video included, are not touched. Writing what
        is already stored and sound leaves it as it is, for readers too.

        Args:
            key: where to store them.
            vectors: float32 [N, D], finite, N >= 1.

        Returns:
            :func:`indexes.stores.vectors.hash_vectors` of what was stored, for :meth:`check`. It is the
            same whatever the backend.

        Raises:
            InputError: wrong shape or dtype, or values that are not finite as float16.
        """

    @abstractmethod
    def search(self, key: VectorKey, query: Float32Array, top: int, *, vectors_hash: str | None = None) -> Hits:
        """The ``top`` rows of one video with the largest inner product (all, if it has fewer).

        Args:
            key: which vectors.
            query: float32 [D].
            top: at least 1.
            vectors_hash: what :meth:`write` returned, or :func:`indexes.stores.vectors.checksum_vectors` of the
                same; vectors that are read from disk for this search are compared with it, so that
                damage is never an answer.

        Raises:
            InputError: wrong shape or dtype, or ``top`` below 1.
            IndexDamagedError: the vectors are missing, cannot be read, or are not what was written.
        """

    def search_many(
        self, committed: Mapping[VectorKey, Committed], query: Float32Array, top: int, *, threads: int = 1
    ) -> Iterator[Found]:
        """:meth:`search` for each of many keys, each once, in any order, exactly.

        Vectors are compared with what was committed when they are first read, and again when what they are
        read from has changed: a damaged video is named, and never answers or keeps silent.

        Args:
            committed: which vectors, all with the query's number of values, and what they are known by.
            query: float32 [D].
            top: of each video; at least 1.
            threads: how many may work at once.

        Raises:
            InputError: as :meth:`search`. Damage is not raised, but given for the key that it concerns.
        """
        for key, known in committed.items():
            try:
                yield Found(key, self.search(key, query, top, vectors_hash=known.vectors_hash), None)
            except IndexDamagedError as exc:
                yield Found(key, None, exc)

    def score(
        self,
        rows: Mapping[VectorKey, IntArray],
        committed: Mapping[VectorKey, Committed],
        query: Float32Array,
        *,
        proofs: Mapping[VectorKey, RunProofs] | None = None,
    ) -> Iterator[Scored]:
        """The similarities of some rows of some videos, exactly as :meth:`search` gives them.

        Args:
            rows: which rows of which vectors, increasing, at least one of each.
            committed: what these vectors are known by; they are compared with it as by :meth:`search_many`.
            query: float32 [D].
            proofs: what the rows themselves are known by; a store may compare them with that instead, and leave the
                rest of the vectors unread.

        Returns:
            one result for each key, in order of ``rows``; similarities in order of its rows.

        Raises:
            InputError: as :meth:`search`. Damage is not raised, but given for the key that it concerns.
        """
        for key, chosen in rows.items():
            try:
                vectors = self.read(key, vectors_hash=committed[key].vectors_hash)
                if chosen[-1] >= len(vectors):
                    raise IndexDamagedError(f"video {key.video_id}: row {chosen[-1]} of {len(vectors)} was asked for")
            except IndexDamagedError as exc:
                yield Scored(key, None, exc)
                continue
            yield Scored(key, similarities(vectors[chosen], query), None)

    @abstractmethod
    def compact(self) -> str | None:
        """Free the space of what was replaced or removed. Readers may go on; other writers wait.

        Returns:
            Why the vectors may take more space than before for a while; None if they cannot.

        Raises:
            ArchiveError: the disk cannot be written.
        """

    @abstractmethod
    def read(self, key: VectorKey, *, vectors_hash: str | None = None) -> Float32Array:
        """All vectors under a key in order of rows: float32 [N, D]. ``vectors_hash`` as in :meth:`search`.

        Raises:
            IndexDamagedError: the vectors are missing, cannot be read, or are not what was written.
        """

    @abstractmethod
    def count(self, key: VectorKey) -> int:
        """How many vectors there are under a key, without reading them where possible; 0 if none.

        Raises:
            IndexDamagedError: something is there that cannot be read.
        """

    @abstractmethod
    def check(self, key: VectorKey, *vectors_hashes: str) -> tuple[int, int]:
        """Compare every stored byte of a key with hashes as for :meth:`search`; rows, and values a row.

        Raises:
            IndexDamagedError: it differs, or is missing.
        """

    @abstractmethod
    def remove(self, key: VectorKey) -> None:
        """Forget the vectors under a key; no error if there are none."""

    @abstractmethod
    def keys(self, video_id: str | None = None) -> Iterator[VectorKey]:
        """Every key that has vectors here, or those of one video; in order."""

    @abstractmethod
    def close(self) -> None:
        """Release files and memory. May be called twice."""
