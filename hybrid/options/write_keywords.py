"""Write ``keywords.py``: for each options class the types of the same options as keywords of a call.

    python -m hybrid.options.write_keywords

A type checker reads source text, so that what is made while a program runs cannot help it. A test compares the file
with the fields.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args, get_origin

from hybrid.options.ask import AskOptions
from hybrid.options.engine import EngineOptions
from hybrid.options.field import Options, options_of
from hybrid.options.index import IndexOptions, RunOptions
from hybrid.options.search import SearchOptions

__all__ = ["CLASSES", "FILE", "keywords_source"]

CLASSES: tuple[type[Options], ...] = (AskOptions, EngineOptions, IndexOptions, RunOptions, SearchOptions)
FILE = Path(__file__).with_name("keywords.py")

_HEAD = '''"""The options of each verb as keywords of a Python call; None: not set.

Written by ``python -m hybrid.options.write_keywords`` from the fields of the options classes. Do not edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict
'''
_SHARED = {"Sequence": "collections.abc", "Path": "pathlib"}


def keywords_source(classes: Sequence[type[Options]] = CLASSES) -> str:
    """The text of the file."""
    bodies, homes = [], set()
    for kind in classes:
        lines = [
            f"class {_keywords(kind)}(TypedDict, total=False):",
            f'    """Of :class:`{kind.__module__}.{kind.__name__}`."""',
            "",
        ]
        for name, (each, about) in options_of(kind).items():
            accepted = _inlined((about.accepts or str(each.type)).removesuffix(" | None"), kind)
            lines.append(f"    {name}: {accepted} | None")
            names = {node.id for node in ast.walk(ast.parse(accepted)) if isinstance(node, ast.Name)}
            homes |= {(_home(word, kind), word) for word in names if word not in dir(builtins)}
        bodies.append("\n".join(lines))
    imports = [f"    from {home} import {word}" for home, word in sorted(homes) if home]
    foreign, own = [[line for line in imports if (" hybrid" in line) is ours] for ours in (False, True)]
    listed = ", ".join(f'"{name}"' for name in sorted(map(_keywords, classes)))
    head = "\n".join([_HEAD, "if TYPE_CHECKING:", *foreign, "", *own, "", f"__all__ = [{listed}]"])
    return "\n\n\n".join([head, *bodies]) + "\n"


def _keywords(kind: type[Options]) -> str:
    return kind.__name__.replace("Options", "Keywords")


def _inlined(accepted: str, kind: type[Options]) -> str:
    """A type with the aliases of literals written out, so that the file imports no module that imports it."""
    for word in re.findall(r"[A-Z]\w+", accepted):
        meaning = next((vars(module)[word] for module in _modules(kind) if word in vars(module)), None)
        if get_origin(meaning) is Literal:
            accepted = accepted.replace(word, f"Literal[{', '.join(json.dumps(each) for each in get_args(meaning))}]")
    return accepted


def _home(word: str, kind: type[Options]) -> str:
    """The module of a type that the module of an options class names; empty if the file needs no import."""
    if word == "Literal" or word.endswith("Keywords"):
        return ""
    for module in _modules(kind):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom) and node.module and word in [alias.name for alias in node.names]:
                return node.module
    return _SHARED[word]


def _modules(kind: type[Options]) -> list[ModuleType]:
    """Where an options class and those that it extends are defined."""
    return [sys.modules[each.__module__] for each in kind.__mro__ if each.__module__ != "builtins"]


if __name__ == "__main__":
    FILE.write_text(keywords_source(), encoding="utf-8")
    sys.stdout.write(f"wrote {FILE}\n")
