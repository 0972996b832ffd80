"""Write ``keywords.py``: for each options class the types of the same options as keywords of a call.

    python -m hybrid.options.write_keywords

A type checker reads source text, so that what is made while a program runs cannot help it. A test compares the file
with the fields.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from hybrid.options.ask import AskOptions
from hybrid.options.field import Options, options_of
from hybrid.options.search import SearchOptions

__all__ = ["CLASSES", "FILE", "keywords_source"]

CLASSES: tuple[type[Options], ...] = (AskOptions, SearchOptions)
FILE = Path(__file__).with_name("keywords.py")

_HEAD = '''"""The options of each verb as keywords of a Python call; None: not set.

Written by ``python -m hybrid.options.write_keywords`` from the fields of the options classes. Do not edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict
'''
_SHARED = {"Sequence": "collections.abc", "Mapping": "collections.abc", "Path": "pathlib"}
_BUILT_IN = {"int", "float", "str", "bool", "tuple", "None"}


def keywords_source(classes: Sequence[type[Options]] = CLASSES) -> str:
    """The text of the file."""
    bodies, names = [], {}
    for kind in classes:
        keywords = kind.__name__.replace("Options", "Keywords")
        lines = [
            f"class {keywords}(TypedDict, total=False):",
            f'    """The options of :class:`{kind.__name__}`."""',
            "",
        ]
        for name, (each, about) in options_of(kind).items():
            accepted = (about.accepts or str(each.type)).removesuffix(" | None") + " | None"
            lines.append(f"    {name}: {accepted}")
            for word in set(re.findall(r"[A-Za-z_]+", accepted)) - _BUILT_IN:
                names[word] = _module_of(word, kind)
        bodies.append("\n".join(lines))
    homes: dict[str, list[str]] = {}
    for word, home in names.items():
        if not word.endswith("Keywords"):
            homes.setdefault(home, []).append(word)
    imports = [f"    from {home} import {', '.join(sorted(words))}" for home, words in sorted(homes.items())]
    own = [line for line in imports if line.startswith("    from hybrid")]
    foreign = [line for line in imports if line not in own]
    listed = ", ".join(
        f'"{kind.__name__.replace("Options", "Keywords")}"' for kind in sorted(classes, key=lambda kind: kind.__name__)
    )
    head = "\n".join([_HEAD, "if TYPE_CHECKING:", *foreign, "", *own, "", f"__all__ = [{listed}]"])
    return "\n\n\n".join([head, *bodies]) + "\n"


def _module_of(word: str, kind: type[Options]) -> str:
    """Where a type lies that the module of an options class names."""
    if word in _SHARED:
        return _SHARED[word]
    named = getattr(import_module(kind.__module__), word, None)
    home = getattr(named, "__module__", kind.__module__)
    return kind.__module__ if home == "typing" else home


if __name__ == "__main__":
    FILE.write_text(keywords_source(), encoding="utf-8")
    sys.stdout.write(f"wrote {FILE}\n")
