"""``hybrid selectors``: the rules that choose frames, and what each of them needs."""

from __future__ import annotations

import typer

from hybrid.cli.options import JsonOption

__all__ = ["list_selectors"]


def list_selectors(as_json: JsonOption = False) -> None:
    """List the selectors with what they need. --json prints one line a selector, with its options."""
    from rich.console import Console
    from rich.table import Column, Table

    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import plain
    from hybrid.selectors.registry import selectors

    table = Table(
        Column("name", no_wrap=True),
        Column("needs", overflow="fold"),
        Column("what it does", overflow="fold"),
        Column("source", overflow="fold"),
        title="selectors",
    )
    for selector in selectors():
        if as_json:
            print_json_line(
                name=selector.name,
                needs=list(selector.needs),
                options=dict(selector.options),
                draws=selector.draws,
                has_quirks=selector.has_quirks,
                summary=selector.summary,
                source=selector.source,
                partial=selector.partial,
            )
            continue
        does = selector.summary + (f". Partial: {selector.partial}" if selector.partial else "")
        table.add_row(selector.name, ", ".join(selector.needs), plain(does), plain(selector.source))
    if not as_json:
        Console().print(table)
        typer.echo("A seed decides those that draw: " + ", ".join(s.name for s in selectors() if s.draws) + ".")
