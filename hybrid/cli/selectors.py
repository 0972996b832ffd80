"""``hybrid selectors``: the rules that choose frames, the scores that they can use, and what each of them needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid.cli.options import JsonOption
from hybrid.cli.text import echo

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["list_selectors"]


def list_selectors(as_json: JsonOption = False) -> None:
    """List the selectors (--select) and the scores (--scores) with their needs and options.

    Options follow the name: --select aks:depth=3,threshold=0.2,faithful. Needs in parentheses are optional.
    --json prints one line for each selector ("name") and for each kind of scores ("scores").
    """
    from rich.table import Column, Table
    from rich.text import Text

    from hybrid.cli.progress import print_json_line
    from hybrid.selectors.registry import SELECTORS

    table = Table(
        Column("name", no_wrap=True),
        Column("needs", overflow="fold", min_width=6),
        Column("what it does", overflow="fold", min_width=14),
        Column("options", overflow="fold", min_width=16),
        Column("source", overflow="fold", min_width=8),
        title="selectors",
    )
    for selector in SELECTORS:
        if as_json:
            print_json_line(
                name=selector.name,
                needs=list(selector.needs),
                takes=list(selector.takes),
                options=dict(selector.options),
                seed=selector.default_seed if selector.draws else None,
                draws=selector.draws,
                has_quirks=selector.has_quirks,
                summary=selector.summary,
                source=selector.source,
                partial=selector.partial,
            )
            continue
        does = selector.summary + (f". Partial: {selector.partial}" if selector.partial else "")
        taken = [f"({name})" for name in selector.takes]
        needs = ", ".join([*selector.needs, *taken])
        options = Text("\n".join(selector.option_texts))
        table.add_row(selector.name, needs, does, options, selector.source)
    _list_scores(as_json=as_json, above=table)
    if not as_json:
        echo("These draw at random and take seed=N: " + ", ".join(s.name for s in SELECTORS if s.draws) + ".")
        echo("faithful: reproduce the authors' code, quirks included. Options: NAME:OPTION=VALUE,faithful")


def _list_scores(*, as_json: bool, above: Table) -> None:
    """The kinds of scores, below the table of the selectors."""
    from rich.table import Column, Table

    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import terminal
    from hybrid.scorers.registry import SCORERS

    table = Table(
        Column("scores", no_wrap=True),
        Column("needs", overflow="fold"),
        Column("what they are", overflow="fold"),
        Column("source", overflow="fold"),
        title="scores",
    )
    for kind in SCORERS:
        if as_json:
            print_json_line(
                scores=kind.name,
                needs=kind.needs,
                options=dict(kind.options),
                checkpoint="optional" if kind.in_engine else "needed",
                summary=kind.summary,
                source=kind.source,
            )
            continue
        options = "".join(f". {name}: {meaning}" for name, meaning in kind.options.items())
        table.add_row(kind.name, kind.needs, kind.summary + options, kind.source)
    if not as_json:
        console = terminal()
        console.print(above)
        console.print(table)
