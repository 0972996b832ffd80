"""Dataclasses as JSON documents, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from hybrid.errors import InputError
from hybrid.storage.json_record import JsonRecord


@dataclass(frozen=True)
class Leaf:
    name: str
    size: float | None = None


@dataclass(frozen=True)
class Tree(JsonRecord):
    what: ClassVar[str] = "a tree"

    kind: Literal["oak", "fir"]
    leaves: tuple[Leaf, ...]
    best: Leaf | None = None
    notes: tuple[str, ...] = ()


TREE = Tree("oak", (Leaf("a", 1.5), Leaf("b")), Leaf("a", 1.5), ("old",))


def test_it_comes_back_as_it_was() -> None:
    assert Tree.from_json(TREE.to_json()) == TREE
    assert Tree.from_dict(TREE.to_dict()) == TREE
    assert Tree.from_dict({"kind": "fir", "leaves": []}) == Tree("fir", ())
    assert isinstance(Tree.from_json(TREE.to_json(indent=None)).notes, tuple)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "oak"},
        {"kind": "oak", "leaves": [], "roots": 1},
        {"kind": "oak", "leaves": 3},
        {"kind": "oak", "leaves": [[]]},
        {"kind": "oak", "leaves": [{"name": "a", "colour": 1}]},
        {"kind": "oak", "leaves": [], "best": "a"},
        {"kind": "oak", "leaves": [], "notes": 1},
        [[]],
    ],
)
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(InputError, match="this is not a tree"):
        Tree.from_dict(document)  # type: ignore[arg-type]


def test_a_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(InputError, match="this is not a tree, line 2: not JSON"):
        Tree.from_json('{"kind":\noak}')
