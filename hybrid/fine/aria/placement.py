"""Where the weights of a large checkpoint go, how much memory that takes, and whether there is enough.

Everything here is decided from ``config.json`` and the sizes of files, before weights are read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.errors import MissingDependencyError, OutOfMemoryError
from hybrid.fine.families import Loading, Quantization
from hybrid.runtime import free_host_bytes

if TYPE_CHECKING:
    import torch

__all__ = ["MemoryNeed", "Placement", "choose_placement", "device_names", "memory_need", "resident_device"]

_LOG = logging.getLogger(__name__)

STATED_WINDOW = 256
"""Frames of the window whose keys and values are counted."""
_TOKENS_BESIDES = 7
"""Per frame, besides its features: start, end, label and line break."""
_TOKENS_OF_QUESTION = 256
# int8 has a scale per row; nf4 a float32 for every 64 values, two values a byte.
_QUANTIZED_BYTES: Mapping[Quantization, float] = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
_ROOM = 0.92
"""Share of a device's free memory that weights may take where they are spread over several."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What running a checkpoint takes, in bytes.

    Attributes:
        weights: of the model.
        window: keys and values of a window of :data:`STATED_WINDOW` frames.
        layers: how many layers the language model has.
        layer: weights of one of them.
        note: what is in ``weights``.
    """

    weights: int
    window: int
    layers: int
    layer: int
    note: str

    @property
    def besides(self) -> int:
        """Weights besides the layers, and room to work on one: these stay on one device."""
        return self.weights - self.layers * self.layer + self.layer

    def __str__(self) -> str:
        return (
            f"{self.weights / 1e9:.1f} GB for its weights ({self.note}) and {self.window / 1e9:.1f} GB more for a "
            f"window of {STATED_WINDOW} frames"
        )


def memory_need(
    config: Mapping[str, Any], parameters: int, *, itemsize: int, dtype: str, loading: Loading
) -> MemoryNeed:
    """The memory for a converted checkpoint.

    Args:
        config: its config.json.
        parameters: how many numbers it holds.
        itemsize: bytes per number in the precision of ``dtype``.
        dtype: name of the precision.
        loading: with quantization, only the linear layers of the language model shrink: the experts,
            nine tenths of Aria's weights, are no linear layers to transformers and bitsandbytes.
    """
    text = config["text_config"]
    layers, heads = int(text["num_hidden_layers"]), int(text["num_attention_heads"])
    key_heads, hidden = int(text.get("num_key_value_heads") or heads), int(text["hidden_size"])
    key_width = key_heads * (hidden // heads)
    queries = max(int(number) for number in config["projector_patch_to_query_dict"].values())
    queries = int(config["projector_patch_to_query_dict"].get("1225", queries))
    tokens = STATED_WINDOW * (queries + _TOKENS_BESIDES) + _TOKENS_OF_QUESTION
    inner, shared_experts = int(text["intermediate_size"]), int(text["moe_num_shared_experts"])
    experts = int(text["moe_num_experts"]) * (3 * hidden * inner + hidden)
    linear = 2 * hidden * hidden + 2 * hidden * key_width + 3 * hidden * inner * shared_experts
    small, note = itemsize * 1.0, dtype
    if loading.quantization is not None:
        small = _QUANTIZED_BYTES[loading.quantization]
        share = layers * linear / parameters
        note = f"{loading.quantization} for {share:.0%} of them, the linear layers; else {dtype}"
    layer = int((experts + 2 * hidden) * itemsize + linear * small)
    weights = (parameters - layers * (experts + 2 * hidden + linear)) * itemsize + layers * layer
    window = 2 * layers * tokens * key_width * itemsize
    return MemoryNeed(weights=weights, window=window, layers=layers, layer=layer, note=note)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where weights go.

    Attributes:
        device_map: for transformers, part of the model -> device; None: they are loaded into host
            memory and then moved.
        folder: for weights that lie on disk.
    """

    device_map: Mapping[str, int | str] | None = None
    folder: Path | None = None


def choose_placement(name: str, need: MemoryNeed, *, asked: str, device: torch.device, loading: Loading) -> Placement:
    """Decide where the weights go.

    On one GPU if they fit there; else over all GPUs, if the caller named none of them; else, if
    asked for, the rest in host memory and on disk. Only whole layers of the language model are moved
    about; all else stays on the first device, because the resampler's attention does not go
    through the calls at which offloaded weights are fetched.

    Args:
        name: of the checkpoint, for the error.
        need: what it takes.
        asked: the device that the caller named; ``auto``: none.
        device: what that means here.
        loading: see :class:`Loading`.

    Raises:
        OutOfMemoryError: there is too little memory; the text states how much there is, and what else can be done.
        MissingDependencyError: a package for it is not installed.
    """
    if loading.quantization is not None:
        _require("bitsandbytes", "for 8bit and 4bit")
    if device.type != "cuda":
        return _host_placement(name, need, device=device, loading=loading)
    return _gpu_placement(name, need, asked=asked, device=device, loading=loading)


def _host_placement(name: str, need: MemoryNeed, *, device: torch.device, loading: Loading) -> Placement:
    free = free_host_bytes()
    if free is None or need.weights <= free:
        if free is not None:
            _warn_of_small_windows(name, need, free - need.weights, "this machine")
        # bitsandbytes quantises only what is placed by a map.
        return Placement({"": str(device)} if loading.quantization else None)
    usable = int(free * _ROOM)
    if loading.folder is None or need.besides > usable:
        raise _too_little(name, need, f"this machine has {free / 1e9:.1f} GB of memory free")
    _require("accelerate", "to offload weights")
    _warn_of_small_windows(name, need, free - usable, "this machine")
    return Placement(_spread(need, {"cpu": usable}, rest="disk"), loading.folder)


def _gpu_placement(name: str, need: MemoryNeed, *, asked: str, device: torch.device, loading: Loading) -> Placement:
    import torch

    # What torch has cached for reuse, after encoding frames for instance, counts as taken.
    torch.cuda.empty_cache()
    free = {number: torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count())}
    here = device.index or 0
    if need.weights <= free[here]:
        _warn_of_small_windows(name, need, free[here] - need.weights, f"cuda:{here}")
        mapped = loading.quantization is not None or _installed("accelerate")
        return Placement({"": here} if mapped else None)
    cards = list(free) if asked in ("auto", "cuda") else [here]
    usable: dict[int | str, int] = {card: int(free[card] * _ROOM) for card in cards}
    there = ", ".join(f"cuda:{card} has {free[card] / 1e9:.1f} GB free" for card in cards)
    host = free_host_bytes() if loading.offload else None
    if host is not None:
        usable["cpu"] = int(host * _ROOM)
        there += f", the host {host / 1e9:.1f} GB"
    spread = _spread(need, usable, rest="disk" if loading.folder is not None else None)
    if spread is None:
        raise _too_little(name, need, there)
    _require("accelerate", "to spread weights over devices")
    return Placement(spread, loading.folder)


def _spread(need: MemoryNeed, usable: Mapping[int | str, int], *, rest: str | None) -> dict[str, int | str] | None:
    """Layers in order over devices; None if they do not fit.

    Over GPUs alone every device gets its share, so that all have room for keys and values; with
    host memory behind them they are filled. ``rest`` takes what fits nowhere.
    """
    first = next(iter(usable))
    room = {device: (size - need.besides if device == first else size) // need.layer for device, size in usable.items()}
    if room[first] < 0:
        return None
    room = {device: max(0, layers) for device, layers in room.items()}
    if "cpu" not in usable and sum(room.values()) > need.layers:
        room = _shares(room, need.layers)
    devices = [device for device, layers in room.items() for _ in range(layers)][: need.layers]
    if len(devices) < need.layers:
        if rest is None:
            return None
        devices += [rest] * (need.layers - len(devices))
    spread: dict[str, int | str] = dict.fromkeys(_STAYING, first)
    spread.update({f"model.language_model.layers.{number}": device for number, device in enumerate(devices)})
    return spread


def _shares(room: Mapping[int | str, int], count: int) -> dict[int | str, int]:
    """``count`` layers over devices in proportion to their room, rounded so that the sum is right."""
    total, shares, passed = sum(room.values()), {}, 0
    for device, layers in room.items():
        before = passed * count // total
        passed += layers
        shares[device] = passed * count // total - before
    return shares


_STAYING = (
    "model.vision_tower",
    "model.multi_modal_projector",
    "model.language_model.embed_tokens",
    "model.language_model.norm",
    "model.language_model.rotary_emb",
    "lm_head",
)


def _warn_of_small_windows(name: str, need: MemoryNeed, room: int, where: str) -> None:
    """Weights alone are not enough: on a host, a window that does not fit gets the process killed."""
    frames = room * STATED_WINDOW // max(1, need.window)
    if frames < STATED_WINDOW:
        _LOG.warning(
            "%s needs %s; %s has room for windows of about %d frames beside the weights: use --window %d or less",
            name,
            need,
            where,
            frames,
            max(1, frames),
        )


def _too_little(name: str, need: MemoryNeed, there: str) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"{name} needs {need}; {there}. What may help: --dtype bfloat16 (half of float32), more GPUs, "
        "--loading offload (the rest in host memory; slow), --loading offload:FOLDER (on disk; very slow), "
        "or the smaller checkpoint, --preset gens-3b"
    )


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _require(package: str, why: str) -> None:
    if not _installed(package):
        raise MissingDependencyError(f"{package} is needed {why} and is not installed: pip install 'hybrid[aria]'")


def device_names(model: Any) -> str:
    """Where a model runs; several devices with commas."""
    devices = getattr(model, "hf_device_map", None)
    if not devices:
        return str(resident_device(model, model.model.language_model.embed_tokens.weight.device))
    names = (f"cuda:{device}" if isinstance(device, int) else str(device) for device in devices.values())
    return ",".join(dict.fromkeys(names))


def resident_device(model: Any, device: torch.device) -> torch.device:
    """Where a part of a model computes; weights that are offloaded are on the device ``meta`` until they are needed."""
    if device.type != "meta":
        return device
    devices = getattr(model, "hf_device_map", {}).values()
    cards = [each for each in devices if isinstance(each, int)]
    return torch.device(f"cuda:{cards[0]}" if cards else "cpu")
