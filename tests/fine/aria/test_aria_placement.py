"""Memory is counted right, stated, and compared with what there is before anything is loaded."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import InputError, MissingDependencyError, OutOfMemoryError
from hybrid.fine.aria.convert.convert import convert_gens
from hybrid.fine.aria.placement import (
    MemoryNeed,
    Placement,
    _spread,
    choose_placement,
    memory_need,
)
from hybrid.fine.families import Loading, read_loading
from hybrid.fine.interface import read_window
from hybrid.testing.untrained_aria import ARIA_SIZES, TINY_SIZES, make_untrained_aria, published_shapes

GB = 10**9
CPU, CUDA = torch.device("cpu"), torch.device("cuda")

ARIA_CONFIG = {
    "projector_patch_to_query_dict": {"1225": 128, "4900": 256},
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 1664,
        "moe_num_experts": 64,
        "moe_num_shared_experts": 2,
        "num_attention_heads": 20,
        "num_hidden_layers": 28,
        "num_key_value_heads": 20,
    },
}
PARAMETERS = sum(prod(shape) for _, shape in published_shapes(ARIA_SIZES)) + 2 * 1152


def need_of(loading: str | None = None) -> MemoryNeed:
    return memory_need(ARIA_CONFIG, PARAMETERS, itemsize=2, dtype="bfloat16", loading=read_loading(loading))


def test_aria_itself() -> None:
    """25.31 billion parameters, 50.6 GB in bfloat16, 10 GB for a window of 256 frames."""
    assert round(PARAMETERS / GB, 2) == 25.31
    need = need_of()
    assert round(need.weights / GB, 1) == 50.6
    assert round(need.window / GB, 1) == 10.0
    assert str(need).startswith("50.6 GB for its weights (bfloat16) and ")


@pytest.mark.parametrize(("word", "bytes_each"), [("8bit", 1.0), ("4bit", 0.5625)])
def test_quantization_shrinks_the_linear_layers_only(word: str, bytes_each: float) -> None:
    linear = 28 * (4 * 2560 * 2560 + 3 * 2560 * 3328)
    need = need_of(word)
    assert abs(need.weights - (2 * (PARAMETERS - linear) + bytes_each * linear)) < 28
    assert need.weights > 0.9 * need_of().weights
    assert word in str(need)
    assert "6% of them" in str(need)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Loading()),
        ("", Loading()),
        ("8bit", Loading("8bit")),
        (" 4bit , offload", Loading("4bit", offload=True)),
        ("offload:/tmp/there,4bit", Loading("4bit", offload=True, folder=Path("/tmp/there"))),
    ],
)
def test_loading_is_read(text: str | None, expected: Loading) -> None:
    assert read_loading(text) == expected


@pytest.mark.parametrize("text", ["2bit", "4bit,8bit", "offload,offload", "4bit:x", "off load"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="legal are"):
        read_loading(text)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``machine(cards=[80], host=64, packages=[...])``: a machine with so many GB free."""

    def build(cards: Iterable[float] = (), host: float = 1000, packages: Iterable[str] = ("accelerate",)) -> None:
        free = [int(size * GB) for size in cards]
        monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
        monkeypatch.setattr("torch.cuda.device_count", lambda: len(free))
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda number: (free[number], free[number]))
        monkeypatch.setattr("hybrid.fine.aria.placement.free_host_bytes", lambda: int(host * GB))
        monkeypatch.setattr("hybrid.fine.aria.placement._installed", lambda name: name in packages)

    return build


def place(asked: str = "auto", loading: str | None = None, device: torch.device = CUDA) -> Placement:
    return choose_placement("gens", need_of(loading), asked=asked, device=device, loading=read_loading(loading))


def counts(placed: Placement) -> dict[int | str, int]:
    """Device -> how many layers it has; all else must be on the first one."""
    assert placed.device_map is not None
    layers = {name: place for name, place in placed.device_map.items() if "layers" in name}
    others = {place for name, place in placed.device_map.items() if "layers" not in name}
    assert list(layers) == [f"model.language_model.layers.{number}" for number in range(28)]
    assert others == {next(iter(placed.device_map.values()))}
    return dict(Counter(layers.values()))


def test_one_card_that_is_large_enough(machine: Callable[..., None]) -> None:
    machine(cards=[80])
    assert place() == Placement({"": 0})
    machine(cards=[80], packages=[])
    assert place() == Placement(None)
    machine(cards=[40, 80])
    assert place("cuda:1", device=torch.device("cuda:1")) == Placement({"": 1})


def test_several_cards_share_what_none_holds(machine: Callable[..., None]) -> None:
    """1.74 GB a layer: the first card also has the 1.9 GB of all else."""
    machine(cards=[24, 24, 24])
    assert counts(place()) == {0: 8, 1: 10, 2: 10}
    machine(cards=[40, 20])
    assert counts(place()) == {0: 18, 1: 10}
    with pytest.raises(OutOfMemoryError, match=r"cuda:1 has 20\.0 GB free"):
        place("cuda:1", device=torch.device("cuda:1"))
    machine(cards=[24, 24, 24], packages=[])
    with pytest.raises(MissingDependencyError, match=r"pip install 'hybrid\[aria\]'"):
        place()


def test_too_small_cards_say_what_can_be_done(machine: Callable[..., None]) -> None:
    machine(cards=[24, 16])
    with pytest.raises(OutOfMemoryError) as caught:
        place()
    text = str(caught.value)
    for part in ("50.6 GB", "10.0 GB", "cuda:0 has 24.0 GB", "cuda:1 has 16.0 GB", "--loading offload", "gens-3b"):
        assert part in text
    assert "\n" not in text


def test_offloading_takes_host_memory_and_disk(machine: Callable[..., None], tmp_path: Path) -> None:
    machine(cards=[24], host=64)
    assert counts(place(loading="offload")) == {0: 10, "cpu": 18}
    machine(cards=[24], host=20)
    with pytest.raises(OutOfMemoryError, match=r"the host 20\.0 GB"):
        place(loading="offload")
    placed = place(loading=f"offload:{tmp_path}")
    assert placed.folder == tmp_path
    assert counts(placed) == {0: 10, "cpu": 10, "disk": 8}
    machine(cards=[2], host=20)
    with pytest.raises(OutOfMemoryError, match="cuda:0 has 2"):
        place(loading=f"offload:{tmp_path}")


def test_on_a_cpu(machine: Callable[..., None], tmp_path: Path) -> None:
    machine(host=200, packages=[])
    assert place(device=CPU) == Placement(None)
    machine(host=23)
    for loading in (None, "offload"):
        with pytest.raises(OutOfMemoryError, match=r"has 23\.0 GB of memory free"):
            place(device=CPU, loading=loading)
    placed = place(device=CPU, loading=f"offload:{tmp_path}")
    assert placed.folder == tmp_path
    assert counts(placed) == {"cpu": 10, "disk": 18}


@given(
    cards=st.lists(st.floats(1, 90), min_size=1, max_size=6),
    host=st.floats(1, 90),
    offload=st.booleans(),
)
def test_no_device_gets_more_than_it_has(cards: list[float], host: float, offload: bool) -> None:
    need = need_of()
    usable: dict[int | str, int] = {number: int(size * GB) for number, size in enumerate(cards)}
    if offload:
        usable["cpu"] = int(host * GB)
    spread = _spread(need, usable, rest=None)
    if spread is None:
        # What is left over on every device together is less than the layers need, piece by piece.
        room = sum(max(0, size - (need.besides if not place else 0)) // need.layer for place, size in usable.items())
        assert usable[0] < need.besides or room < need.layers
        return
    held = Counter(place for name, place in spread.items() if "layers" in name)
    assert sum(held.values()) == need.layers
    for device, size in usable.items():
        assert held[device] * need.layer + (need.besides if device == 0 else 0) <= size


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ({"host": 55}, "this machine has room for windows of about 112 frames"),
        ({"host": 61}, None),
        ({"cards": [55]}, "cuda:0 has room for windows of about 112 frames"),
        ({"cards": [80]}, None),
    ],
)
def test_weights_that_leave_no_room_for_a_window_are_said(
    machine: Callable[..., None], caplog: pytest.LogCaptureFixture, there: dict[str, Any], says: str | None
) -> None:
    """A window that a host does not hold ends the process; a GPU cuts windows until they fit.

    4.4 GB are left beside 50.6 GB; a frame takes 135 tokens of 28 layers times 2560 keys and values: 38.7 MB.
    """
    machine(**there)
    place(device=CUDA if "cards" in there else CPU)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == (says is not None)
    assert says is None or says in warned[0]


def test_quantization_needs_its_package(machine: Callable[..., None]) -> None:
    machine(cards=[80])
    with pytest.raises(MissingDependencyError, match="bitsandbytes"):
        place(loading="4bit")
    machine(cards=[80], packages=["accelerate", "bitsandbytes"])
    assert place(loading="4bit") == Placement({"": 0})


def test_too_little_memory_is_said_before_loading(
    aria_folder: Path, machine: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    from hybrid.fine.load import load_scorer

    machine(host=1e-3)
    with (
        caplog.at_level("INFO", logger="hybrid"),
        pytest.raises(OutOfMemoryError, match=r"this machine has 0\.0 GB of memory free"),
    ):
        load_scorer(aria_folder, device="cpu")
    assert [record for record in caplog.records if "for a window of 256 frames" in record.getMessage()]


needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed (pip install 'hybrid[aria]')"
)
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None or importlib.util.find_spec("accelerate") is None,
    reason="bitsandbytes is not installed (pip install 'hybrid[aria]')",
)


@needs_accelerate
def test_weights_on_disk_give_the_same_reply(
    aria_folders: dict[bool, Path],
    make_aria_scorer: Callable[..., Any],
    make_frames: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Host memory for less than the weights; some layers come from disk at every step."""
    frames = make_frames(3, 200, 120)
    for norm, folder in aria_folders.items():
        usual = make_aria_scorer(folder)
        size = sum(tensor.nbytes for tensor in usual._checkpoint.model.state_dict().values())
        with monkeypatch.context() as patched:
            patched.setattr("hybrid.fine.aria.placement.free_host_bytes", lambda: int(size * 0.95))  # noqa: B023
            spread = make_aria_scorer(folder, loading=f"offload:{tmp_path / str(norm)}")
        assert spread.device == "cpu,disk"
        for question in ("Who?", "What happens after the door opens?"):
            assert read_window(spread, frames, question).text == read_window(usual, frames, question).text


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("word", ["8bit", "4bit"])
def test_quantized_layers_are_those_that_are_counted(
    tmp_path: Path, make_aria_scorer: Callable[..., Any], make_frames: Callable[..., Any], word: str
) -> None:
    # bitsandbytes packs rows of 64 values.
    source = make_untrained_aria(tmp_path / "source", sizes=replace(TINY_SIZES, hidden=64, expert_width=32))
    scorer = make_aria_scorer(convert_gens(source, tmp_path / "native").folder, loading=word)
    model = scorer._checkpoint.model
    small = {name for name, module in model.named_modules() if type(module).__module__.startswith("bitsandbytes")}
    attention = {f"self_attn.{part}_proj" for part in "qkvo"}
    shared = {f"mlp.shared_experts.{part}_proj" for part in ("gate", "up", "down")}
    layers = [f"model.language_model.layers.{number}." for number in range(3)]
    assert small == {layer + part for layer in layers for part in attention | shared}
    assert scorer.identity["quantization"] == word
    assert read_window(scorer, make_frames(2, 200, 120), "Who?").new_tokens > 0
