"""Encoders of open_clip: loading a checkpoint, its exact identity, and unit vectors of frames and questions.

The preprocessing is the checkpoint's own, run by open_clip's own transform. This module knows nothing of videos,
times or indexes.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid.clip.interface import EncoderKind, TextVector
from hybrid.errors import InputError, ModelLoadError, OutOfMemoryError
from hybrid.runtime import choose_device, choose_dtype, dtype_name, ensure_torchvision, out_of_memory_as_error
from hybrid.storage.foreign_json import ForeignJsonError, read_json
from hybrid.values import ByteArray, Float32Array, check_questions

if TYPE_CHECKING:
    import torch

__all__ = ["CPU_BATCH", "ENCODER", "ClipEncoder", "canonical_name", "load_open_clip"]

_LOG = logging.getLogger(__name__)

CPU_BATCH = 32
CUDA_BATCH = 256

_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


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


def _identity_of_name(name: str) -> dict[str, str]:
    """The part of an encoder's identity that its name alone tells.

    >>> _identity_of_name("ViT-B-32/laion2b_s34b_b79k")
    {'model': 'ViT-B-32', 'pretrained': 'laion2b_s34b_b79k'}
    >>> _identity_of_name("local-dir:checkpoints/mine")
    {'model': 'mine', 'pretrained': ''}

    Raises:
        InputError: as :func:`canonical_name`.
    """
    model, tag = canonical_name(name)
    if tag is None:
        return {"model": Path(model.removeprefix("local-dir:")).name, "pretrained": ""}
    return {"model": model, "pretrained": tag}


def _name_of_identity(identity: Mapping[str, object]) -> str:
    model, tag = identity.get("model"), identity.get("pretrained")
    return shlex.quote(f"{model}/{tag}") if tag else f"local-dir:FOLDER or hf-hub:NAME that ends in {model}"


def load_open_clip(name: str, *, device: str, dtype: str, batch_size: int | None = None) -> ClipEncoder:
    """Load model, preprocessing and tokenizer; see :func:`hybrid.clip.registry.load_encoder`.

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
            create = partial(open_clip.create_model_and_transforms, model_name, pretrained=tag, require_pretrained=True)
            model, _, preprocess = create(precision="fp32", device=torch.device("cpu"))
            weights = _weights_hash(model)
            if precision is not torch.float32 or where.type != "cpu":
                model, _, preprocess = create(precision=_PRECISIONS[dtype_name(precision)], device=where)
            tokenizer = open_clip.get_tokenizer(model_name)
            preprocess(Image.new("RGB", (8, 8)))  # settings that are no numbers show only when they are used
        except (torch.cuda.OutOfMemoryError, MemoryError):
            raise
        except Exception as exc:
            raise ModelLoadError(_load_failure(name, model_name, exc)) from exc
    model.eval()
    return ClipEncoder(
        name,
        model=model,
        preprocess=preprocess,
        tokenizer=tokenizer,
        torch_device=where,
        dtype=precision,
        batch_size=batch_size or (CUDA_BATCH if where.type == "cuda" else CPU_BATCH),
        identity={
            "encoder": "open_clip",
            **_identity_of_name(name),
            "weights": weights,
            "preprocess": _describe_preprocess(model),
            "open_clip": str(open_clip.__version__),
            "precision": dtype_name(precision),
        },
    )


def _check_known(open_clip: Any, name: str, model_name: str, tag: str | None) -> None:
    if tag is None:
        if not model_name.startswith("local-dir:"):
            return
        folder = Path(model_name.removeprefix("local-dir:"))
        if not (folder / "open_clip_config.json").is_file():
            raise ModelLoadError(
                f"{name}: there is no open_clip_config.json in {folder}; "
                "a local checkpoint is a folder with open_clip_config.json and open_clip_model.safetensors"
            )
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


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """open_clip logs to the root logger, as warnings, what is normal here."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@dataclass(eq=False)
class ClipEncoder:
    """An open_clip model, its preprocessing and its tokenizer.

    Attributes:
        name: that it was loaded by.
        identity: everything that decides a vector.
        model, preprocess, tokenizer: open_clip's own.
        torch_device, dtype: where the model runs, and the precision of its weights.
        batch_size: frames that are encoded at once; less where the device has no room for them.
    """

    name: str
    identity: Mapping[str, str]
    model: Any
    preprocess: Any
    tokenizer: Any
    torch_device: torch.device
    dtype: torch.dtype
    batch_size: int

    def __post_init__(self) -> None:
        self._largest = self.batch_size
        # A GPU outruns one preprocessing thread many times over; on a CPU the model needs the cores.
        self._workers = 8 if self.torch_device.type == "cuda" else 1

    @property
    def device(self) -> str:
        """Where the model runs, as torch names it."""
        return str(self.torch_device)

    def encode_frames(self, frames: Iterable[ByteArray]) -> Iterator[Float32Array]:
        """Unit vectors of frames, in order.

        Frames are preprocessed one by one as they come, so that no more than one batch of small
        images is held whatever their number and size. Batches always hold the same number of
        frames, but for the last one, so that the vectors of a video come out the same each time.

        Args:
            frames: uint8 [H, W, 3] RGB; sizes may differ.

        Yields:
            float32 [n, D] blocks.

        Raises:
            OutOfMemoryError: not even one frame fits on the device.
        """
        tensors = self._tensors(frames)
        while batch := list(islice(tensors, self.batch_size)):
            yield self._encode_in_parts(batch)

    def encode_text(self, text: str) -> TextVector:
        """The unit vector of a text; a text that is too long is cut, and the result has a note.

        Raises:
            InputError: the text is not legal as a question.
        """
        import torch

        check_questions([text])
        tokens = _count_tokens(self.tokenizer, text)
        ids = self.tokenizer([text]).to(self.torch_device)
        with torch.inference_mode(), out_of_memory_as_error(f"encoding a text with {self.name}"):
            features = self.model.encode_text(ids)
            vector = torch.nn.functional.normalize(features.float(), dim=-1)[0].cpu().numpy()
        return TextVector(vector=vector, tokens=tokens, context_length=int(ids.shape[1]))

    def _tensors(self, frames: Iterable[ByteArray]) -> Iterator[torch.Tensor]:
        if self._workers == 1:
            yield from map(self._to_tensor, frames)
            return
        with ThreadPoolExecutor(max_workers=self._workers) as pool:
            pending: deque[Future[torch.Tensor]] = deque()
            for frame in frames:
                pending.append(pool.submit(self._to_tensor, frame))
                if len(pending) > 2 * self._workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _to_tensor(self, frame: ByteArray) -> torch.Tensor:
        from PIL import Image

        tensor: torch.Tensor = self.preprocess(Image.fromarray(frame))
        return tensor

    def _encode_in_parts(self, batch: Sequence[torch.Tensor]) -> Float32Array:
        """Encode a batch; if the device has no room for it, in ever smaller parts."""
        size = min(len(batch), self._largest)
        while True:
            try:
                parts = [self._encode_batch(batch[start : start + size]) for start in range(0, len(batch), size)]
            except OutOfMemoryError:
                if size == 1:
                    raise
                # Kept, so that the batches that follow do not run into the same wall.
                size = self._largest = (size + 1) // 2
                _LOG.warning("%s has no room for a batch of frames; it is encoded %d at a time", self.device, size)
            else:
                return np.concatenate(parts)

    def _encode_batch(self, batch: Sequence[torch.Tensor]) -> Float32Array:
        import torch

        with torch.inference_mode(), out_of_memory_as_error(f"encoding {len(batch)} frames with {self.name}"):
            pixels = torch.stack(list(batch)).to(self.torch_device, dtype=self.dtype)
            features = self.model.encode_image(pixels)
            unit = torch.nn.functional.normalize(features.float(), dim=-1)
        vectors: Float32Array = unit.cpu().numpy()
        return vectors


def _count_tokens(tokenizer: Any, text: str) -> int:
    if hasattr(tokenizer, "encode"):
        # open_clip's own byte-pair tokenizer counts without the marks of start and end.
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(tokenizer.clean_fn(text))["input_ids"])


ENCODER = EncoderKind("open_clip", load_open_clip, _identity_of_name, _name_of_identity)
