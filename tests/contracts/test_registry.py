"""What every registry promises, run over all of them."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from hybrid.errors import InputError
from hybrid.registry import Registry

REGISTRIES = (
    "hybrid.frames.registry:DECODERS",
    "hybrid.clip.registry:ENCODERS",
    "indexes.stores.registry:STORES",
    "indexes.stores.registry:REMOTE_STORES",
    "hybrid.fine.registry:FAMILIES",
    "hybrid.scorers.registry:SCORERS",
    "hybrid.selectors.registry:SELECTORS",
    "hybrid.export.registry:EXPORTERS",
    "hybrid.cli.registry:VERBS",
    "bench.accuracy.answerers.registry:ANSWERERS",
)


@pytest.fixture(params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> Registry[Any]:
    module, _, name = request.param.partition(":")
    found: Registry[Any] = getattr(import_module(module), name)
    return found


def test_each_entry_is_registered_under_its_own_name(registry: Registry[Any]) -> None:
    assert tuple(registry.find(name).name for name in registry.names) == registry.names
    assert len(registry) == len(set(registry.names)) > 0


def test_each_entry_has_a_file_of_its_own(registry: Registry[Any]) -> None:
    assert len(set(registry._modules.values())) == len(registry)


def test_an_unknown_name_is_answered_with_the_nearest_and_all_legal_ones(registry: Registry[Any]) -> None:
    name = registry.names[-1]
    legal = ", ".join(registry.names)
    for slip in (f"{name}x", name[:-1], name[:1].upper() + name[1:]):
        with pytest.raises(InputError) as refused:
            registry.find(slip)
        assert str(refused.value) == f"there is no {registry.kind} {slip!r}; did you mean {name!r}? Legal are {legal}"
    for nothing in ("", "????"):
        with pytest.raises(InputError) as refused:
            registry.find(nothing)
        assert str(refused.value) == f"there is no {registry.kind} {nothing!r}; legal are {legal}"


def test_a_name_is_given_once(registry: Registry[Any]) -> None:
    with pytest.raises(InputError, match=f"there is a {registry.kind} '{registry.names[0]}' already"):
        registry.register(registry.names[0], "somewhere.else")


def test_names_are_listed_without_importing_an_entry_or_a_model_library() -> None:
    program = f"""
import sys
from importlib import import_module
for each in {REGISTRIES!r}:
    module, _, name = each.partition(":")
    registry = getattr(import_module(module), name)
    assert registry.names
    loaded = set(registry._modules.values()) & set(sys.modules)
    assert not loaded, f"{{each}} imports {{loaded}}"
heavy = {{"torch", "transformers", "open_clip", "faiss", "lancedb", "av", "decord", "openai"}} & set(sys.modules)
assert not heavy, heavy
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
