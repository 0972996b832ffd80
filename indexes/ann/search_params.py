"""How much a search by the approximate index compares exactly."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.errors import InputError

__all__ = ["SearchParams"]


@dataclass(frozen=True, slots=True)
class SearchParams:
    """How much is compared exactly.

    Attributes:
        units: how many units at a time, at least.
        most_units: how many in all, at most, unless ``top`` asks for more.
        units_per_frame, most_units_per_frame: at least so many units for each requested frame, in
            place of the two above.
        deviations: it goes on while the next unit's approximate similarity lies less than so many
            standard deviations (of exact from approximate ones) below the last frame that counts.
    """

    units: int = 512
    most_units: int = 4096
    units_per_frame: int = 2
    most_units_per_frame: int = 16
    deviations: float = 3.0

    def __post_init__(self) -> None:
        counts = (self.units_per_frame, self.most_units_per_frame)
        if self.units < 1 or self.most_units < 1 or min(counts) < 0 or self.deviations < 0:
            raise InputError(f"search parameters are {self}; units must be at least 1, the others at least 0")

    def batch(self, top: int) -> int:
        """How many units are compared at a time."""
        return max(self.units, self.units_per_frame * top)

    def limit(self, top: int) -> int:
        """How many units are compared at most."""
        return max(self.most_units, self.most_units_per_frame * top)
