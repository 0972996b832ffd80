"""Small made-up features for the tests of the archive, a function of a seed alone."""

from __future__ import annotations

import numpy as np

from indexes.format.feature_list import FeatureItem, FeatureSpec, feature_item

GRID = (2, 3)
WIDTH = 8


def some_spec(**changes: str) -> FeatureSpec:
    """A spec that differs by its identity."""
    return FeatureSpec({"weights": "00ff", "mode": "image", **changes}, "bfloat16", WIDTH)


def some_item(seed: int, grid: tuple[int, int] = GRID) -> FeatureItem:
    """The features of one frame."""
    size = some_spec().item_bytes(grid)
    return feature_item(grid, np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8))


def some_items(rows: list[int], seed: int = 0) -> dict[int, FeatureItem]:
    """Features of several rows."""
    return {row: some_item(1000 * seed + row) for row in rows}
