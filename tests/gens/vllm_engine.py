"""What stands in for vLLM's engine: transformers' ``generate`` on the embeddings that it is given.

It knows nothing of this package: it takes token ids with one placeholder per image, embeddings and grids,
and does with them what vLLM documents. Grammars are xgrammar's, as in vLLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(slots=True)
class Engine:
    """A checkpoint, without its vision tower.

    Attributes:
        folder: where it lies.
    """

    folder: Path
    _model: Any = field(init=False)
    tokenizer: Any = field(init=False)

    def __post_init__(self) -> None:
        from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

        self._model = Qwen2_5_VLForConditionalGeneration.from_pretrained(self.folder, attn_implementation="sdpa").eval()
        self._model.model.visual.forward = None  # nobody is to look at pixels here
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)

    def expand(self, ids: Sequence[int], grids: torch.Tensor) -> list[int]:
        """One placeholder per feature in place of one per image."""
        config = self._model.config
        pad, merge = config.image_token_id, config.vision_config.spatial_merge_size
        sizes = (grids.prod(-1) // merge**2).tolist()
        assert list(ids).count(pad) == len(sizes)
        expanded: list[int] = []
        for token in ids:
            expanded += [pad] * sizes.pop(0) if token == pad else [token]
        return expanded

    def write(
        self,
        ids: Sequence[int],
        embeds: torch.Tensor,
        grids: torch.Tensor,
        *,
        max_tokens: int,
        repetition_penalty: float,
        stop_token_ids: Sequence[int],
        regex: str | None = None,
    ) -> tuple[list[int], list[int], str]:
        """The prompt as it was read, the new tokens, and why they ended."""
        read = self.expand(ids, grids)
        inputs = torch.tensor([read])
        is_image = inputs == self._model.config.image_token_id
        table = self._model.get_input_embeddings()(inputs)
        assert embeds.shape == (int(is_image.sum()), table.shape[-1])
        inputs_embeds = table.masked_scatter(is_image[..., None], embeds.to(table))
        whole = self._model.generate(
            input_ids=inputs,
            inputs_embeds=inputs_embeds,
            image_grid_thw=grids,
            mm_token_type_ids=is_image.long(),
            attention_mask=torch.ones_like(inputs),
            do_sample=False,
            max_new_tokens=max_tokens,
            repetition_penalty=repetition_penalty,
            eos_token_id=list(stop_token_ids),
            logits_processor=[] if regex is None else [self._form(regex, stop_token_ids, len(read))],
        )[0].tolist()
        new = whole[len(read) :] if whole[: len(read)] == read else whole
        return read, new, "stop" if new[-1] in stop_token_ids else "length"

    def _form(self, regex: str, ends: Sequence[int], prompt: int) -> Any:
        """Admits what xgrammar admits."""
        import xgrammar

        size = self._model.config.text_config.vocab_size
        info = xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=size, stop_token_ids=list(ends))
        matcher = xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(info).compile_regex(regex))
        mask = xgrammar.allocate_token_bitmask(1, size)
        taken = 0

        def form(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            nonlocal taken
            new = ids[0, prompt:].tolist()
            for token in new[taken:]:
                assert matcher.accept_token(token)
            taken = len(new)
            matcher.fill_next_token_bitmask(mask)
            bits = ((mask[0][:, None] >> torch.arange(32)) & 1).flatten()[:size].bool()
            return scores.masked_fill(~bits, -torch.inf)

        return form
