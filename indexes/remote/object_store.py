"""Small files in an object store: read, written, listed, and replaced only if they are still what they were.

The conditional writes (``If-None-Match``, ``If-Match``) are what exclusion rests on; an object store
that ignores them is found out when an archive is made (:meth:`Objects.obeys_conditions`).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from hybrid.errors import ArchiveUnreachableError, MissingDependencyError
from indexes.remote.patience import CLIENT_RETRIES, CLIENT_SECONDS, Patience

__all__ = ["ObjectInfo", "Objects", "StoredObject"]

_RETRIES: Any = {"max_retries": CLIENT_RETRIES, "retry_timeout": timedelta(seconds=CLIENT_SECONDS)}
_ABSENT = (FileNotFoundError,)
_TRIAL = ".tmp-"


class StoredObject(NamedTuple):
    """An object as it was read: its content, and the version (ETag) that a conditional write names."""

    data: bytes
    version: str


class ObjectInfo(NamedTuple):
    """What a listing says of an object."""

    size_bytes: int
    version: str


class Objects:
    """The objects below a URI, by names relative to it. Safe for several threads."""

    def __init__(self, uri: str) -> None:
        """Nothing is asked of the store yet. Credentials and endpoint come from the environment (``AWS_...``).

        Raises:
            MissingDependencyError: the package obstore is not installed.
            ArchiveUnreachableError: what the environment says cannot be used.
        """
        self.uri = uri
        self.patience = Patience()
        try:
            from obstore.store import from_url
        except ModuleNotFoundError as exc:
            raise MissingDependencyError(
                f"archive {uri} lies in an object store, and the package 'obstore' is not installed; "
                "run: pip install 'hybrid[remote]'"
            ) from exc
        with self._seam("cannot be reached"):
            self._store = from_url(uri, retry_config=_RETRIES)

    def get(self, name: str) -> StoredObject | None:
        """An object's content; None if there is none.

        Raises:
            ArchiveUnreachableError: the store cannot be read.
        """
        import obstore

        def get() -> StoredObject | None:
            with contextlib.suppress(FileNotFoundError), self._seam(f"{name} cannot be read", passed=_ABSENT):
                found = obstore.get(self._store, name)
                return StoredObject(bytes(found.bytes()), found.meta["e_tag"] or "")
            return None

        return self.patience.ask(get)

    def put(self, name: str, data: bytes) -> str:
        """Write an object, whatever is there; its new version. It is durable, and seen by all, on return.

        Raises:
            ArchiveUnreachableError: the store cannot be written.
        """
        return self._put(name, data, "overwrite")

    def create(self, name: str, data: bytes) -> str | None:
        """Write an object only if there is none of this name; its version, or None if there is one.

        Raises:
            ArchiveUnreachableError: the store cannot be written.
        """
        from obstore.exceptions import AlreadyExistsError

        try:
            return self._put(name, data, "create", passed=(AlreadyExistsError,))
        except AlreadyExistsError:
            return self._own_version(name, data)

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Write an object only if it is still of this version; its new one, or None if it is not.

        Raises:
            ArchiveUnreachableError: the store cannot be written.
        """
        from obstore.exceptions import PreconditionError

        try:
            return self._put(name, data, {"e_tag": version}, passed=(PreconditionError, *_ABSENT))
        except (PreconditionError, *_ABSENT):
            return self._own_version(name, data)

    def delete(self, name: str) -> None:
        """Delete an object; no error if there is none.

        Raises:
            ArchiveUnreachableError: the store cannot be written.
        """
        import obstore

        def delete() -> None:
            with contextlib.suppress(FileNotFoundError), self._seam(f"{name} cannot be deleted", passed=_ABSENT):
                obstore.delete(self._store, name)

        self.patience.ask(delete)

    def list(self, prefix: str = "") -> dict[str, ObjectInfo]:
        """All objects whose names begin with whole parts of a prefix, by name.

        Raises:
            ArchiveUnreachableError: the store cannot be read.
        """
        return self.patience.ask(lambda: dict(self._listed(prefix)))

    def is_empty(self) -> bool:
        """Whether there is nothing below the URI; what :meth:`obeys_conditions` tries out there does not count.

        Raises:
            ArchiveUnreachableError: the store cannot be read.
        """
        return self.patience.ask(lambda: all(name.startswith(_TRIAL) for name, _ in self._listed("")))

    def obeys_conditions(self) -> bool:
        """Whether the store refuses what a conditional write forbids. Leaves nothing behind.

        Raises:
            ArchiveUnreachableError: the store cannot be read or written.
        """
        name = f"{_TRIAL}{secrets.token_hex(8)}"
        try:
            version = self.create(name, b"1")
            refused = self.create(name, b"2") is None
            return refused and version is not None and self.replace(name, b"3", '"0"') is None
        finally:
            self.delete(name)

    def _listed(self, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
        import obstore

        with self._seam("cannot be listed"):
            for chunk in obstore.list(self._store, prefix=prefix or None):
                for found in chunk:
                    yield found["path"], ObjectInfo(found["size"], found["e_tag"] or "")

    def _put(self, name: str, data: bytes, mode: Any, *, passed: tuple[type[Exception], ...] = ()) -> str:
        import obstore

        def put() -> str:
            with self._seam(f"{name} cannot be written", passed=passed):
                return obstore.put(self._store, name, data, mode=mode, use_multipart=False)["e_tag"] or ""

        return self.patience.ask(put)

    def _own_version(self, name: str, data: bytes) -> str | None:
        """A write whose answer was lost is sent again, and then meets itself."""
        found = self.get(name)
        return found.version if found is not None and found.data == data else None

    @contextmanager
    def _seam(self, what: str, *, passed: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Turn the client's errors into ours."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError) as exc:
            if "NoSuchBucket" in str(exc):
                raise ArchiveUnreachableError(f"{self.uri}: there is no such bucket; make it first") from exc
            if isinstance(exc, passed):
                raise
            raise ArchiveUnreachableError(f"{self.uri}: {what}: {_line(exc)}") from exc


def _line(exc: Exception) -> str:
    """The first line of an error, without the XML that a server answers with."""
    return (str(exc).splitlines() or [type(exc).__name__])[0].partition(": <?xml")[0][:300]
