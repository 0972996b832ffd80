"""The tables of :mod:`bench.accuracy.selectors_world`: every selector with every source of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.accuracy.run.report import difference_text, interval_text, p_value_text, report_notes
from bench.report import print_table
from hybrid.selectors.selector import Selector

__all__ = ["Way", "print_tables", "slim", "ways_of"]

RECALL, ALL_HIT = "recall@0", "all_hit@0"
ESSENTIAL: Final = (RECALL, ALL_HIT, "frame_f1")
DIGITS: Final = 4
MANY: Final = "moments=3+"


@dataclass(frozen=True, slots=True)
class Way:
    """A selector, and whose scores it goes by: ``clip``, ``gens``, or none (an empty text)."""

    source: str
    selector: str

    def name(self, frames: int) -> str:
        """The name of the method with that budget."""
        return f"{self.source}+{self.selector}@{frames}" if self.source else f"{self.selector}@{frames}"


def ways_of(chosen: Sequence[Selector]) -> list[Way]:
    """Every selector that goes by scores with each source, the others once, with none."""
    able = [selector for selector in chosen if "prompts" not in selector.needs]
    scored = [selector for selector in able if selector.uses_scores]
    return [
        *(Way("", selector.name) for selector in able if not selector.uses_scores),
        *(Way("clip", selector.name) for selector in scored if "gens_scores" not in selector.needs),
        *(Way("gens", selector.name) for selector in scored),
    ]


def print_tables(report: Mapping[int, Mapping[str, Any]], ways: Sequence[Way]) -> None:
    """Print all tables.

    Args:
        report: by budget, of :func:`bench.accuracy.run.report.build_report`, grouped by kind and number of moments.
        ways: in the order of the rows.
    """
    _print(report, ways)
    _print_differences(report)
    for note in dict.fromkeys(note for one in report.values() for note in report_notes(one)):
        print(f"\n{note}")


def _print(report: Mapping[int, Mapping[str, Any]], ways: Sequence[Way]) -> None:
    for frames, one in report.items():
        print(f"\nK = {frames}: 95 % intervals, videos resampled; s: seconds a question, scoring included")
        header = ["scores", "selector", "recall", "all-hit", "frame F1", "frames", "s", "s of the rule", "fell back"]
        print_table(header, [[way.source or "none", way.selector, *_figures(one, way.name(frames))] for way in ways])
        for measure, title in ((RECALL, "evidence recall"), (ALL_HIT, "all-hit")):
            print(f"\nK = {frames}: {title} by kind and by number of moments (questions)")
            groups = [group for group in one["measures"] if group != "all"]
            counts = {group: next(iter(one["measures"][group].values()))[measure]["questions"] for group in groups}
            print_table(
                ["scores", "selector", *(f"{group.partition('=')[2]} ({counts[group]})" for group in groups)],
                [
                    [
                        way.source or "none",
                        way.selector,
                        *(_value(one["measures"][group][way.name(frames)].get(measure)) for group in groups),
                    ]
                    for way in ways
                ],
            )


def _print_differences(report: Mapping[int, Mapping[str, Any]]) -> None:
    for frames, one in report.items():
        first, groups = one["differences"]["first"], one["differences"]["by_group"]
        print(f"\nK = {frames}: {first} minus each of the others [95 %], p of the paired test")
        shown = [(group, measure) for group in ("all", MANY) if group in groups for measure in (RECALL, ALL_HIT)]
        others = list(groups["all"][RECALL])
        print_table(
            ["minus", *(f"{measure.partition('@')[0]}, {group}" for group, measure in shown)],
            [
                [other, *(_difference(groups[group][measure].get(other)) for group, measure in shown)]
                for other in others
            ],
        )


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    return f"{difference_text(found)} p {p_value_text(found)}"


def _figures(one: Mapping[str, Any], name: str) -> list[str]:
    state, measured = one["methods"][name], one["measures"]["all"][name]
    return [
        *(interval_text(measured.get(measure)) for measure in (RECALL, ALL_HIT)),
        _value(measured.get("frame_f1")),
        *(f"{number:.4g}" if number is not None else "-" for number in _numbers(state)),
        str(state["degraded"]),
    ]


def _numbers(state: Mapping[str, Any]) -> tuple[float | None, ...]:
    return state["mean_frames"], state["select_seconds"]["median"], state["rule_seconds"]["median"]


def _value(estimate: Mapping[str, Any] | None) -> str:
    return "-" if estimate is None else f"{estimate['value']:.3f}"


def slim(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a report in a file: recall, all-hit and frame F1 with four digits; differences of two groups.

    Args:
        report: of :func:`bench.accuracy.run.report.build_report`.
    """
    differences = report["differences"]
    groups = {group: _essential(row) for group, row in differences["by_group"].items() if group in ("all", MANY)}
    return {
        **report,
        "measures": {
            group: {method: _essential(row) for method, row in rows.items()}
            for group, rows in report["measures"].items()
        },
        "differences": {"first": differences["first"], "by_group": groups},
    }


def _essential(row: Mapping[str, Any]) -> dict[str, Any]:
    """By measure: an estimate, or estimates by method; the level of the intervals is 95 % throughout."""
    return {measure: _rounded(row[measure]) for measure in ESSENTIAL if measure in row}


def _rounded(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _rounded(value) if isinstance(value, Mapping) else round(value, DIGITS)
        for name, value in found.items()
        if name not in ("level", "videos")
    }
