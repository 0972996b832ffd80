"""Whether the installed transformers runs Aria as the checkpoint was trained.

Some versions are known to be wrong (``_WRONG``). As what was wrong once can be wrong again, these
parts are also tried out, on modules of a few numbers, before anything large is loaded.
"""

from __future__ import annotations

import re
from typing import Any

from hybrid.errors import ModelLoadError
from hybrid.fine.aria.convert.config import FRAME_PATCHES, FRAME_SIDE, PATCH
from hybrid.fine.aria.router import leave_weights_unnormalised

__all__ = ["check_transformers", "check_version"]

_REMEDY = "install another: pip install 'transformers>=5.17'"
_TOLERANCE = 1e-5

# First version, first version behind it, what is wrong.
_WRONG: tuple[tuple[tuple[int, int], tuple[int, int], str], ...] = (
    ((0, 0), (4, 52), "does not know the layout that checkpoints are converted to"),
    ((4, 55), (4, 58), "gives the vision encoder's patches wrong positions"),
)


def check_version(version: str) -> None:
    """Refuse versions of transformers that are known to be wrong.

    Raises:
        ModelLoadError: it is one of them.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    found = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    for first, behind, fault in _WRONG:
        if first <= found < behind:
            raise ModelLoadError(f"transformers {version} {fault}, so GenS on Aria would be wrong with it; {_REMEDY}")


def check_transformers(config: Any) -> None:
    """Try out the parts of transformers that were wrong in some version, or would fail silently.

    Args:
        config: the checkpoint's, as transformers read it.

    Raises:
        ModelLoadError: transformers does something else than the published code.
    """
    import torch
    import transformers

    check_version(transformers.__version__)
    normalised = getattr(config.text_config, "norm_topk_prob", True)
    # Modules draw their first weights, which must not move the caller's random numbers.
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        try:
            faults = [_fault_of_vision(config.vision_config.image_size), _fault_of_experts(normalised=normalised)]
        except (AttributeError, ImportError, TypeError, ValueError) as exc:
            raise ModelLoadError(
                f"transformers {transformers.__version__} has another Aria than is known here ({exc}); {_REMEDY}"
            ) from exc
    for fault in filter(None, faults):
        raise ModelLoadError(f"transformers {transformers.__version__} {fault}; {_REMEDY}")


def _fault_of_vision(image_size: int) -> str | None:
    """Positions of patches, and that features are taken before the last norm."""
    import torch
    from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionConfig, Idefics3VisionTransformer

    sizes = {"hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1}
    encoder = Idefics3VisionTransformer(Idefics3VisionConfig(image_size=image_size, patch_size=PATCH, **sizes)).eval()
    side, across = image_size // PATCH, FRAME_SIDE // PATCH
    table = encoder.embeddings.position_embedding.weight
    table.copy_(torch.arange(side**2)[:, None].expand(table.shape))
    encoder.embeddings.patch_embedding.weight.zero_()
    encoder.embeddings.patch_embedding.bias.zero_()
    encoder.post_layernorm.weight.zero_()
    encoder.post_layernorm.bias.fill_(7.0)
    pixels = torch.zeros(1, 3, FRAME_SIDE, FRAME_SIDE)
    seen = torch.ones(1, across, across, dtype=torch.bool)
    found = encoder.embeddings(pixel_values=pixels, patch_attention_mask=seen)[0, :, 0]
    buckets = torch.arange(across) * side // across
    expected = (buckets[:, None] * side + buckets[None, :]).reshape(FRAME_PATCHES)
    if not torch.equal(found, expected.to(found.dtype)):
        return "gives the vision encoder's patches wrong positions"
    last = encoder(pixels, output_hidden_states=True).hidden_states[-1]
    return "takes image features after the last norm" if bool((last == 7.0).all()) else None


def _fault_of_experts(*, normalised: bool) -> str | None:
    """The weights of a token's experts, with the correction where the checkpoint needs it, against the formula."""
    import torch
    from torch.nn import functional
    from transformers.models.aria.configuration_aria import AriaTextConfig
    from transformers.models.aria.modeling_aria import AriaTextMoELayer

    experts, chosen, hidden, inner = 5, 2, 4, 3
    config = AriaTextConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=1,
        moe_num_experts=experts,
        moe_topk=chosen,
        moe_num_shared_experts=1,
    )
    # A model would choose how experts are computed; a layer by itself needs the setting.
    config._experts_implementation = "eager"
    layer = AriaTextMoELayer(config).eval()
    parts = dict(layer.named_parameters())
    draws = torch.Generator().manual_seed(0)
    for part in parts.values():
        part.normal_(generator=draws)
    if not normalised:
        leave_weights_unnormalised(layer)
    first = parts["experts.gate_up_proj"] if "experts.gate_up_proj" in parts else parts["experts.fc1.weight"]
    second = parts["experts.down_proj"] if "experts.down_proj" in parts else parts["experts.fc2.weight"]
    tokens = torch.randn(1, 6, hidden, generator=draws)
    weights, indices = functional.linear(tokens, parts["router.weight"]).softmax(-1).topk(chosen)
    if normalised:
        weights = weights / weights.sum(-1, keepdim=True)
    gate, up = torch.einsum("bth,ehi->btei", tokens, first).chunk(2, dim=-1)
    every = torch.einsum("btei,eih->bteh", functional.silu(gate) * up, second)
    picked = every.gather(2, indices[..., None].expand(-1, -1, -1, hidden))
    expected = (picked * weights[..., None]).sum(2) + layer.shared_experts(tokens)
    if float((layer(tokens) - expected).abs().max()) > _TOLERANCE * float(expected.abs().max()):
        return "mixes the experts of a token in another way than the published code"
    return None
