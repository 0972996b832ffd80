"""One seam for whatever a model library raises while GenS runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.errors import HybridError, ModelError, first_line

__all__ = ["gens_errors"]


@contextmanager
def gens_errors() -> Iterator[None]:
    """Whatever else a model library raises must not cost the caller the coarse answer.

    Raises:
        ModelError: in place of a foreign error.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError, MemoryError) as exc:
        if isinstance(exc, HybridError):
            raise
        raise ModelError(f"the sampler failed: {first_line(exc)}") from exc
