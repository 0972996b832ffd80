"""Opens a checkpoint whose language model runs in vLLM; called by :func:`hybrid.gens.load.load_scorer`.

Of the weights only those of the vision tower are loaded here (1.3 of the 3B model's 7.5 GB).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hybrid.errors import InputError, ModelLoadError, OutOfMemoryError, first_line
from hybrid.gens.checkpoint import CheckpointConfig, CheckpointFiles, find_checkpoint
from hybrid.gens.loop.options import LoopOptions
from hybrid.gens.pixels import read_patch_rule
from hybrid.gens.prompt import GENS_QWEN, PromptSpec
from hybrid.gens.vllm.name import VllmName
from hybrid.runtime import dtype_name, ensure_torchvision, out_of_memory_as_error

if TYPE_CHECKING:
    import torch

    from hybrid.gens.two_parts import TwoPartScorer
    from hybrid.gens.vllm.asking import Asking
    from hybrid.gens.writer import Writer

__all__ = ["check_kind", "check_mode", "check_place", "load_vllm"]

_LOG = logging.getLogger(__name__)

_TOWER_KEYS = {r"^(?:model\.)?visual\.": ""}
_OTHER_KEYS = [r"^(?:model|lm_head)\."]


def load_vllm(
    name: VllmName,
    *,
    device: torch.device,
    dtype: torch.dtype,
    prompt: PromptSpec | None,
    loop: LoopOptions | None,
) -> TwoPartScorer:
    """Load what runs here; vLLM is started, or its server asked, by the first question.

    Args:
        name: where vLLM runs, and with what.
        device, dtype: of the vision tower. In this process ``dtype`` is the language model's too; a server
            has its own.
        prompt: by default the one beside the checkpoint, or GenS's own.
        loop: ``constrained`` and ``batch`` are followed, the rest is vLLM's affair.

    Raises:
        ModelLoadError: the checkpoint is missing, damaged, or not of Qwen2.5-VL.
        OutOfMemoryError: the tower does not fit on the device.
        InputError: the prompt, or the device, cannot be used with vLLM.
        MissingDependencyError: vLLM, or the client of its servers, is not installed.
    """
    from hybrid.gens.load import (
        check_frame_size,
        check_vision,
        generation_settings,
        load_tokenizer,
        prompt_beside,
        prompt_tokens,
    )
    from hybrid.gens.qwen_frames import QwenFrames
    from hybrid.gens.two_parts import TwoPartScorer
    from hybrid.gens.vllm.asking import Asking

    check_place(name, device)
    files = find_checkpoint(name.checkpoint)
    check_kind(files)
    spec = prompt or prompt_beside(files) or GENS_QWEN
    check_mode(spec, files)
    rule = read_patch_rule(files.folder)
    check_frame_size(spec, rule, files)
    options = loop or LoopOptions()
    ensure_torchvision()
    config, generation = _settings(files)
    check_vision(files, config, rule)
    tokenizer = load_tokenizer(files)
    end_ids, penalty = generation_settings(files, generation)
    asking = Asking(
        tokens=prompt_tokens(files, tokenizer, config, spec),
        spec=spec,
        end_ids=end_ids,
        repetition_penalty=penalty,
        constrained=options.constrained,
        merge=rule.merge,
    )
    writer = _writer(name, files, asking, dtype=dtype, batch=options.batch)
    identity = _identity(name, files, spec, dtype, constrained=options.constrained)
    tower = _load_tower(files, config.vision_config, device=device, dtype=dtype)
    frames = QwenFrames(tower, rule=rule, spec=spec, identity=identity)
    return TwoPartScorer(str(name), identity, frames=frames, writer=writer, tokenizer=tokenizer, spec=spec)


def check_place(name: VllmName, device: torch.device) -> None:
    """Refuse a place where vLLM cannot run.

    Raises:
        MissingDependencyError: it is to run in this process, and is not installed.
        InputError: it would run on another device.
    """
    from hybrid.gens.vllm.in_process import require_vllm

    if name.address is not None:
        return
    require_vllm()
    if device.index:
        raise InputError(
            f"device is {str(device)!r}; vLLM runs on the first GPU that this process sees: choose it with "
            f"CUDA_VISIBLE_DEVICES={device.index} and --device cuda"
        )


def check_kind(files: CheckpointConfig) -> None:
    """Refuse a checkpoint that is not run through vLLM.

    Raises:
        ModelLoadError: it is not of Qwen2.5-VL.
    """
    if files.config["model_type"] != "qwen2_5_vl":
        raise ModelLoadError(
            f"{files.name} has the model_type {files.config['model_type']!r}; through vLLM only qwen2_5_vl is run, so "
            f"use --sampler {files.name}"
        )


def check_mode(spec: PromptSpec, files: CheckpointConfig) -> None:
    """Refuse a prompt that is not run through vLLM.

    Raises:
        InputError: it is not in image mode.
    """
    if spec.mode != "image":
        raise InputError(
            f"the prompt is in {spec.mode} mode; through vLLM only image mode is run: --sampler {files.name}"
        )


def _settings(files: CheckpointFiles) -> tuple[Any, Any]:
    """The configuration of a checkpoint, and that of its replies, as transformers reads them."""
    from transformers import GenerationConfig, Qwen2_5_VLConfig

    try:
        config = Qwen2_5_VLConfig.from_pretrained(files.folder, local_files_only=True)
        if (files.folder / "generation_config.json").is_file():
            return config, GenerationConfig.from_pretrained(files.folder, local_files_only=True)
        return config, GenerationConfig.from_model_config(config)
    except Exception as exc:  # transformers raises what it likes
        raise ModelLoadError(f"the settings of {files.name} cannot be read: {first_line(exc)}") from exc


def _writer(name: VllmName, files: CheckpointFiles, asking: Asking, *, dtype: torch.dtype, batch: int) -> Writer:
    if name.address is None:
        from hybrid.gens.vllm.in_process import InProcessWriter

        return InProcessWriter(files.folder, asking, dtype=dtype_name(dtype), batch=batch)
    from hybrid.gens.vllm.server import ServerWriter

    return ServerWriter(name, asking, batch=batch)


def _identity(
    name: VllmName, files: CheckpointFiles, spec: PromptSpec, dtype: torch.dtype, *, constrained: bool
) -> dict[str, str]:
    from importlib import metadata

    from hybrid.gens.load import identity_of

    identity = {**identity_of(files, spec, dtype), "engine": "vllm", "constrained": str(constrained)}
    if name.address is not None:
        return {**identity, "address": name.address}
    try:
        return {**identity, "vllm": metadata.version("vllm")}
    except metadata.PackageNotFoundError:  # on the path, but not installed as a package
        return {**identity, "vllm": "unknown"}


def _load_tower(files: CheckpointFiles, config: Any, *, device: torch.device, dtype: torch.dtype) -> Any:
    """The vision tower of a checkpoint, made by its own part of the configuration, without the rest of its weights."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    class Tower(Qwen2_5_VisionTransformerPretrainedModel):  # type: ignore[misc]
        # Not for the log: that the language model is left out is meant.
        _keys_to_ignore_on_load_unexpected = _OTHER_KEYS

    try:
        with out_of_memory_as_error(f"loading the vision tower of {files.name}"):
            tower, report = Tower.from_pretrained(
                files.folder,
                config=config,
                dtype=dtype,
                key_mapping=_TOWER_KEYS,
                attn_implementation="sdpa",
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=True,
            )
            tower = tower.eval().to(device)
    except OutOfMemoryError:
        raise
    except Exception as exc:  # see _settings
        raise ModelLoadError(f"{files.name} cannot be loaded: {first_line(exc)}; download it again") from exc
    for kind in ("missing_keys", "mismatched_keys"):
        keys = sorted(map(str, report.get(kind) or ()))
        if keys:
            raise ModelLoadError(
                f"the vision tower of {files.name} does not fit its config.json: {len(keys)} {kind.replace('_', ' ')}, "
                f"first {keys[0]!r}; it is incomplete or of another architecture, download it again"
            )
    _LOG.info("loaded the vision tower of %s on %s; its language model runs in vLLM", files.name, device)
    return tower
