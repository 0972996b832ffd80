"""All vector stores by name. FAISS and LanceDB are imported only when one of their stores is opened.

A new store is a file that ends in ``STORE = ItsClass``, and its line in :data:`STORES`; one that keeps its vectors in
an object store has a line in :data:`REMOTE_STORES`, under the name of its local twin.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hybrid.errors import MissingDependencyError
from hybrid.registry import Registry

if TYPE_CHECKING:
    from indexes.stores.interface import VectorStore

__all__ = ["PACKAGES", "REMOTE_STORES", "STORES", "StoreClass", "check_backend", "open_store"]


class StoreClass(Protocol):
    """A class of stores; :class:`~indexes.stores.interface.VectorStore` is what it makes."""

    @property
    def name(self) -> str:
        """The name of the backend."""
        ...

    def __call__(self, folder: Path, **options: Any) -> VectorStore:
        """Open the store of an archive."""
        ...


STORES: Registry[StoreClass] = Registry(
    "backend",
    "STORE",
    {
        "faiss": "indexes.stores.faiss_store",
        "lancedb": "indexes.stores.lance_store",
    },
)
"""The first one is the default."""

REMOTE_STORES: Registry[StoreClass] = Registry(
    "remote backend",
    "STORE",
    {
        "lancedb": "indexes.remote.lance_store",
    },
)

PACKAGES = {"faiss": "faiss-cpu", "lancedb": "lancedb", "pyarrow": "lancedb"}
"""Which package brings a module that may not be installed."""


def check_backend(backend: str, *, remote: bool = False) -> str:
    """Return the name of a backend; nothing is imported for it.

    Args:
        backend: the name.
        remote: whether it must be able to keep vectors in an object store.

    Raises:
        InputError: no backend has this name, or it cannot be used in an object store.
    """
    for stores in (STORES, REMOTE_STORES) if remote else (STORES,):
        stores.check(backend)
    return backend


def open_store(folder: Path, backend: str, *, uri: str | None = None, **options: Any) -> VectorStore:
    """Open the vectors of an archive; nothing is written by that.

    Args:
        folder: of the archive; of a remote one, where this machine has its copies.
        backend: name of the store.
        uri: of a remote archive.
        options: passed to the store.

    Raises:
        InputError: no store has this name.
        MissingDependencyError: the store's package is not installed.
    """
    try:
        if uri is not None:
            return REMOTE_STORES.find(backend)(folder, uri=uri, **options)
        return STORES.find(backend)(folder, **options)
    except ModuleNotFoundError as exc:
        package = PACKAGES.get((exc.name or "").split(".")[0])
        if package is None:
            raise
        raise MissingDependencyError(
            f"the archive's backend is {backend!r}, and the package {exc.name!r} is not installed; "
            f"run: pip install {package}"
        ) from exc
