"""A small, UNTRAINED open_clip checkpoint: the true architecture, random weights.

It is loaded through the same calls as the published models. Its similarities mean nothing.
"""

from __future__ import annotations

from pathlib import Path

from hybrid.runtime import ensure_torchvision
from hybrid.testing.untrained_gens import write_json

__all__ = ["make_untrained_clip"]

MODEL_CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESS_CONFIG = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def make_untrained_clip(folder: Path, *, seed: int = 0) -> Path:
    """Write a checkpoint in open_clip's local-dir form (configuration and safetensors), about 6 MB.

    The same seed gives the same weights.

    Args:
        folder: made if it is not there.
        seed: of the random weights.

    Returns:
        The folder, to be used as ``local-dir:FOLDER``.
    """
    ensure_torchvision()
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(**MODEL_CONFIG)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    write_json(folder / "open_clip_config.json", {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG})
    return folder
