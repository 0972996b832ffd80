"""Which class stands behind a backend's name. FAISS and LanceDB are imported only when asked for."""

from __future__ import annotations

from pathlib import Path

from hybrid.errors import InputError, MissingDependencyError
from indexes.base import BACKENDS, VectorStore

__all__ = ["check_backend", "open_store"]


def check_backend(backend: str) -> None:
    """Refuse a name that is not a backend's.

    Raises:
        InputError: it is not one of :data:`~indexes.base.BACKENDS`.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}; legal are {', '.join(map(repr, BACKENDS))}")


def open_store(folder: Path, backend: str) -> VectorStore:
    """Open the vectors of the archive in ``folder``; nothing is written by that.

    Raises:
        InputError: the backend is not known.
        MissingDependencyError: its package is not installed.
    """
    check_backend(backend)
    try:
        if backend == "lancedb":
            from indexes.lance_table import LanceStore

            return LanceStore(folder)
        from indexes.faiss_file import FaissStore

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
