"""Load an open_clip checkpoint and say exactly which one it is."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.errors import InputError, ModelLoadError
from hybrid.runtime import choose_device, choose_dtype, dtype_name, ensure_torchvision, out_of_memory_as_error
from hybrid.storage.foreign_json import ForeignJsonError, read_json

if TYPE_CHECKING:
    import torch

__all__ = ["LoadedClip", "canonical_name", "identity_of_name", "load_open_clip"]

_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True, slots=True, eq=False)
class LoadedClip:
    """A model, what belongs to it, and its identity."""

    model: Any
    preprocess: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    identity: Mapping[str, str]


def canonical_name(name: str) -> tuple[str, str | None]:
    """Split an encoder's name into open_clip's model name and pretrained tag.

    >>> canonical_name("ViT-B-32/laion2b_s34b_b79k")
    ('ViT-B-32', 'laion2b_s34b_b79k')
    >>> canonical_name("hf-hub:organisation/name")
    ('hf-hub:organisation/name', None)

    Raises:
        InputError: the name has neither a tag nor a scheme, and is no folder.
    """
    if name.startswith(("hf-hub:", "local-dir:")):
        return name, None
    if Path(name).is_dir():
        return f"local-dir:{name}", None
    model, slash, tag = name.partition("/")
    if not slash or not model or not tag:
        raise InputError(
            f"encoder is {name!r}; legal are ARCHITECTURE/TAG (ViT-B-32/laion2b_s34b_b79k), ARCHITECTURE/FILE, "
            "hf-hub:NAME and local-dir:FOLDER"
        )
    return model, tag


def identity_of_name(name: str) -> dict[str, str]:
    """What an encoder's name alone says of its identity; nothing is loaded.

    >>> identity_of_name("ViT-B-32/laion2b_s34b_b79k")
    {'model': 'ViT-B-32', 'pretrained': 'laion2b_s34b_b79k'}
    >>> identity_of_name("local-dir:checkpoints/mine")
    {'model': 'mine', 'pretrained': ''}

    Raises:
        InputError: as :func:`canonical_name`.
    """
    model, tag = canonical_name(name)
    if tag is None:
        return {"model": Path(model.removeprefix("local-dir:")).name, "pretrained": ""}
    return {"model": model, "pretrained": tag}


def load_open_clip(name: str, *, device: str, dtype: str) -> LoadedClip:
    """Load model, preprocessing and tokenizer; see :func:`hybrid.clip.encoder.load_encoder`.

    Raises:
        InputError: the name, device or precision is not legal.
        ModelLoadError: the checkpoint is missing or damaged, or cannot be downloaded.
    """
    model_name, tag = canonical_name(name)
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    ensure_torchvision()
    import open_clip
    import torch
    from PIL import Image

    _check_known(open_clip, name, model_name, tag)
    with _quiet_root_logger(), out_of_memory_as_error(f"loading {name} on {where}"):
        try:
            # The weights are hashed as they were published, so that an index that was made in
            # another precision is known to be of the same model.
            model, _, preprocess = _create(open_clip, model_name, tag, "fp32", torch.device("cpu"))
            weights = _weights_hash(model)
            if precision is not torch.float32 or where.type != "cpu":
                model, _, preprocess = _create(open_clip, model_name, tag, _PRECISIONS[dtype_name(precision)], where)
            tokenizer = open_clip.get_tokenizer(model_name)
            preprocess(Image.new("RGB", (8, 8)))  # settings that are no numbers show only when they are used
        except (torch.cuda.OutOfMemoryError, MemoryError):
            raise
        except Exception as exc:
            raise ModelLoadError(_load_failure(name, model_name, exc)) from exc
    model.eval()
    return LoadedClip(
        model=model,
        preprocess=preprocess,
        tokenizer=tokenizer,
        device=where,
        dtype=precision,
        identity={
            "encoder": "open_clip",
            **identity_of_name(name),
            "weights": weights,
            "preprocess": _describe_preprocess(model),
            "open_clip": str(open_clip.__version__),
            "precision": dtype_name(precision),
        },
    )


def _create(open_clip: Any, model_name: str, tag: str | None, precision: str, device: torch.device) -> tuple[Any, ...]:
    created: tuple[Any, ...] = open_clip.create_model_and_transforms(
        model_name, pretrained=tag, precision=precision, device=device, require_pretrained=True
    )
    return created


def _check_known(open_clip: Any, name: str, model_name: str, tag: str | None) -> None:
    if tag is None:
        folder = Path(model_name.removeprefix("local-dir:"))
        if model_name.startswith("local-dir:") and not (folder / "open_clip_config.json").is_file():
            raise ModelLoadError(
                f"{name}: there is no open_clip_config.json in {folder}; "
                "a local checkpoint is a folder with open_clip_config.json and open_clip_model.safetensors"
            )
        if model_name.startswith("local-dir:"):
            try:
                read_json(folder / "open_clip_config.json")  # open_clip itself knows no limits
            except (OSError, ForeignJsonError) as exc:
                raise ModelLoadError(f"{name} cannot be loaded: {exc}") from exc
        return
    models = open_clip.list_models()
    if model_name not in models:
        near = [known for known in models if known.lower().startswith(model_name[:5].lower())]
        raise InputError(
            f"open_clip {open_clip.__version__} has no architecture {model_name!r}; similar ones: "
            f"{', '.join(near[:8]) or 'none'}"
        )
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if tag not in tags and not Path(tag).is_file():
        raise InputError(
            f"{model_name} has no pretrained tag {tag!r}, and there is no such file; tags: {', '.join(tags) or 'none'}"
        )
    # Weights that were trained with another activation than the architecture's give other vectors
    # without an error; open_clip only warns. The other way round its lists are not to be trusted.
    wants_quick = bool((open_clip.get_pretrained_cfg(model_name, tag) or {}).get("quick_gelu", False))
    has_quick = bool(open_clip.get_model_config(model_name).get("quick_gelu", False))
    if wants_quick and not has_quick:
        raise InputError(
            f"{name}: this tag was trained with QuickGELU and {model_name} has GELU, which would give wrong vectors; "
            f"use {model_name}-quickgelu/{tag}"
        )


def _load_failure(name: str, model_name: str, exc: Exception) -> str:
    reason = (str(exc).strip() or type(exc).__name__).splitlines()[0].split(". ")[0].rstrip(".")
    if model_name.startswith("local-dir:"):
        return f"{name} cannot be loaded: {reason}"
    return (
        f"{name} cannot be loaded: {reason}. Its weights are downloaded once from the model hub; on a machine without "
        "one, copy the checkpoint there and use --encoder local-dir:FOLDER, or try --preset tiny"
    )


def _weights_hash(model: Any) -> str:
    """blake3 over names, shapes and bytes of all weights, in order of names; 32 hex digits."""
    import torch
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO)
    for key, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        hasher.update(f"{key} {list(tensor.shape)} {tensor.dtype}\n".encode())
        hasher.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return str(hasher.hexdigest(length=16))


def _describe_preprocess(model: Any) -> str:
    from open_clip.transform import PreprocessCfg

    settings = model.visual.preprocess_cfg
    described = asdict(settings) if isinstance(settings, PreprocessCfg) else dict(settings)
    return json.dumps(described, sort_keys=True, default=list)


class _quiet_root_logger:
    """open_clip logs to the root logger, at the level of a warning for what is normal here."""

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._before)
