"""``hybrid selectors``: the rules that choose frames, the scores that they can use, and what each of them needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hybrid.cli.display.text import echo, print_json_line, terminal
from hybrid.cli.options import JsonOption
from hybrid.cli.registry import Verb

if TYPE_CHECKING:
    from hybrid.scorers.interface import ScorerKind
    from hybrid.selectors.selector import Selector

__all__ = ["VERB"]


def list_selectors(as_json: JsonOption = False) -> None:
    """List the selectors (--select) and the scores (--scores) with their needs and options.

    Options follow the name: --select aks:depth=3,threshold=0.2,faithful. Needs in parentheses are optional.
    --json prints one line for each selector ("name") and for each kind of scores ("scores").
    """
    from hybrid.scorers.registry import SCORERS
    from hybrid.selectors.registry import SELECTORS

    if as_json:
        for facts in [*map(_selector_facts, SELECTORS), *map(_scorer_facts, SCORERS)]:
            print_json_line(**facts)
        return
    columns = {"name": 0, "needs": 6, "what it does": 14, "options": 16, "source": 8}
    _print_table("selectors", columns, map(_selector_row, SELECTORS))
    columns = {"scores": 0, "needs": 0, "what they are": 0, "source": 0}
    _print_table("scores", columns, map(_scorer_row, SCORERS))
    echo("These draw at random and take seed=N: " + ", ".join(each.name for each in SELECTORS if each.draws) + ".")
    echo("faithful: reproduce the authors' code, quirks included. Options: NAME:OPTION=VALUE,faithful")


VERB = Verb("selectors", list_selectors)


def _print_table(title: str, columns: dict[str, int], rows: Iterable[tuple[Any, ...]]) -> None:
    """A table; ``columns``: the least width of each, the first of which is never wrapped."""
    from rich.table import Column, Table

    first, *others = columns
    wrapped = [Column(name, overflow="fold", min_width=columns[name] or None) for name in others]
    table = Table(Column(first, no_wrap=True), *wrapped, title=title)
    for row in rows:
        table.add_row(*row)
    terminal().print(table)


def _selector_facts(selector: Selector) -> dict[str, Any]:
    return {
        "name": selector.name,
        "needs": list(selector.needs),
        "takes": list(selector.takes),
        "options": dict(selector.options),
        "seed": selector.default_seed if selector.draws else None,
        **{name: getattr(selector, name) for name in ("draws", "has_quirks", "summary", "source", "partial")},
    }


def _selector_row(selector: Selector) -> tuple[Any, ...]:
    from rich.text import Text

    does = selector.summary + (f". Partial: {selector.partial}" if selector.partial else "")
    needs = ", ".join([*selector.needs, *(f"({name})" for name in selector.takes)])
    return selector.name, needs, does, Text("\n".join(selector.option_texts)), selector.source


def _scorer_facts(kind: ScorerKind) -> dict[str, Any]:
    return {
        "scores": kind.name,
        "needs": kind.needs,
        "options": dict(kind.options),
        "checkpoint": "optional" if kind.in_engine else "needed",
        "summary": kind.summary,
        "source": kind.source,
    }


def _scorer_row(kind: ScorerKind) -> tuple[Any, ...]:
    options = "".join(f". {name}: {meaning}" for name, meaning in kind.options.items())
    return kind.name, kind.needs, kind.summary + options, kind.source
