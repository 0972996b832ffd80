"""One seam for whatever a model library raises while a fine-stage model runs."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hybrid.errors import HybridError, ModelError, first_line

__all__ = ["as_model_error", "model_errors", "with_model_errors"]

Item = TypeVar("Item")

_FOREIGN = (RuntimeError, TypeError, ValueError, MemoryError)


def as_model_error(error: Exception) -> Exception:
    """A foreign error of a model library as a :class:`~hybrid.errors.ModelError`; any other error as it is."""
    if isinstance(error, _FOREIGN) and not isinstance(error, HybridError):
        return ModelError(f"the sampler failed: {first_line(error)}")
    return error


@contextmanager
def model_errors() -> Iterator[None]:
    """Whatever a model library raises must not cost the caller the coarse answer.

    Raises:
        ModelError: in place of a foreign error.
    """
    try:
        yield
    except _FOREIGN as exc:
        if isinstance(exc, HybridError):
            raise
        raise as_model_error(exc) from exc


def with_model_errors(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The same items; a foreign error that comes up while one is made is a ModelError."""
    iterator = iter(items)
    try:
        while True:
            with model_errors():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
