"""On which frames a run chooses: the rate, decoding policy, decoder and encoder of each index that it uses.

Frames on two grids cannot be compared: recall within a second of a moment is another measure where frames lie two
seconds apart. A run, its resumption and its report are of one grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.accuracy.run.record import Sample, differences
from hybrid.errors import HybridError
from indexes.format.manifest import Manifest

__all__ = ["Grid", "GridsDifferError", "grid_of", "grid_text", "one_grid", "same_grid"]

Grid = Mapping[str, Any]


class GridsDifferError(HybridError):
    """Videos of one run are indexed with different rates, policies, decoders or encoders."""


def grid_of(manifest: Manifest) -> Grid:
    """What decides which frames an index holds and how they are compared, ready for ``json.dumps``: ``rate``,
    ``policy``, ``decoder``, ``encoder`` (its identity), and the ``fingerprint`` of all that."""
    return {"fingerprint": manifest.fingerprint, **manifest.config.model_dump(mode="json")}


def same_grid(known: Grid | None, found: Grid, *, video: str) -> Grid:
    """``found``, if it is the one that is known, or none is.

    Args:
        known: of the run so far.
        found: of the index of ``video``.
        video: its name, for the error.

    Raises:
        GridsDifferError: it is another one.
    """
    changes = differences(_without_digest(known), _without_digest(found)) if known is not None else []
    if changes:
        raise GridsDifferError(
            f"the index of {video} is not made like those of the run's other videos ({'; '.join(changes)}), so that "
            "their numbers are not comparable; say --rate, --sampling, --decoder and --dtype and choose another --out "
            "(indexes that differ are made anew), or take an archive whose videos are indexed alike"
        )
    return found


def one_grid(samples: Iterable[Sample]) -> Grid | None:
    """The grid of all samples; None if none of them says its own (runs of before it was recorded).

    Raises:
        GridsDifferError: there are several.
    """
    known: Grid | None = None
    for sample in samples:
        if sample.index is not None:
            known = same_grid(known, sample.index, video=sample.video)
    return known


def grid_text(grid: Grid | None) -> str:
    """One line for people."""
    if grid is None:
        return "candidates: not recorded"
    encoder = "/".join(str(grid["encoder"][key]) for key in ("model", "pretrained") if grid["encoder"].get(key))
    return f"candidates: {grid['rate']:g} a second, {grid['policy']}, {grid['decoder']}, compared by {encoder}"


def _without_digest(grid: Grid) -> dict[str, Any]:
    return {key: value for key, value in grid.items() if key != "fingerprint"}
