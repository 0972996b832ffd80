"""Which class stands behind a backend's name. FAISS and LanceDB are imported only when asked for."""

from __future__ import annotations

from pathlib import Path

from hybrid.errors import MissingDependencyError
from indexes.format.keys import check_backend
from indexes.stores.interface import VectorStore

__all__ = ["open_store"]


def open_store(folder: Path, backend: str) -> VectorStore:
    """Open the vectors of the archive in ``folder``; nothing is written by that.

    Raises:
        InputError: the backend is not known.
        MissingDependencyError: its package is not installed.
    """
    check_backend(backend)
    try:
        if backend == "lancedb":
            from indexes.stores.lance_store import LanceStore

            return LanceStore(folder)
        from indexes.stores.faiss_store import FaissStore

        return FaissStore(folder)
    except ModuleNotFoundError as exc:
        if (exc.name or "").split(".")[0] not in _NEEDED[backend]:
            raise
        raise MissingDependencyError(
            f"the archive's backend is {backend!r}, and the package {exc.name!r} is not installed; "
            f"run: {_INSTALL[backend]}"
        ) from exc


_NEEDED = {"faiss": ("faiss",), "lancedb": ("lancedb", "pyarrow")}
_INSTALL = {"faiss": "pip install faiss-cpu", "lancedb": "pip install lancedb"}
