"""The verbs of the command line, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hybrid.registry import Registry

__all__ = ["VERBS", "Verb"]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line.

    Attributes:
        name: what is typed; "GROUP VERB" for a verb of a group.
        run: a function whose parameters are those of the verb (see :mod:`hybrid.cli.from_fields`), and whose
            docstring is its help.
        group_help: the help of its group, if it is in one.
    """

    name: str
    run: Callable[..., None]
    group_help: str = ""


VERBS: Registry[Verb] = Registry(
    "verb",
    "VERB",
    {
        "index": "hybrid.cli.verbs.index",
        "ask": "hybrid.cli.verbs.ask",
        "search": "hybrid.cli.verbs.search",
        "list": "hybrid.cli.verbs.list",
        "stats": "hybrid.cli.verbs.stats",
        "verify": "hybrid.cli.verbs.verify",
        "compact": "hybrid.cli.verbs.compact",
        "remove": "hybrid.cli.verbs.remove",
        "export": "hybrid.cli.verbs.export",
        "import": "hybrid.cli.verbs.import_",
        "convert": "hybrid.cli.verbs.convert",
        "features drop": "hybrid.cli.verbs.features",
        "selectors": "hybrid.cli.verbs.selectors",
        "convert-gens": "hybrid.cli.verbs.convert_gens",
        "doctor": "hybrid.cli.verbs.doctor",
        "demo": "hybrid.cli.verbs.demo",
    },
)
"""A new verb is a file that ends in ``VERB = Verb(...)``, and a line here. Help lists them in this order."""
