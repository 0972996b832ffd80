"""A VideoQA model of transformers in this process: Qwen2-VL, Qwen2.5-VL, LLaVA, LLaVA-OneVision and their like.

Whatever ``AutoModelForImageTextToText`` loads, with the processor and the chat template that lie beside it. Frames go
as pictures of one turn, before the text; decoding is greedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.accuracy.answerers.interface import AnswererKind, AnswererOptions, AnswerFailedError, Reply
from bench.accuracy.answerers.prompts import Picture, as_image, times_of
from hybrid.errors import ModelLoadError, OutOfMemoryError, first_line
from hybrid.fine.checkpoint import CheckpointFiles, find_folder
from hybrid.runtime import choose_device, choose_dtype, dtype_name, ensure_torchvision, out_of_memory_as_error

if TYPE_CHECKING:
    import torch

__all__ = ["ANSWERER", "TransformersAnswerer", "load_transformers_answerer"]

_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")


class TransformersAnswerer:
    """A loaded model with its processor; made by :func:`load_transformers_answerer`."""

    def __init__(self, model: Any, processor: Any, options: AnswererOptions, identity: Mapping[str, Any]) -> None:
        self._model = model
        self._processor = processor
        self._options = options
        self.identity = identity

    def answer(self, pictures: Sequence[Picture], prompt: str) -> Reply:
        """See :class:`~bench.accuracy.answerers.interface.Answerer`."""
        import torch

        turn = [{"role": "user", "content": self._content(pictures, prompt)}]
        images = [as_image(picture.rgb, side=self._options.side) for picture in pictures]
        try:
            with out_of_memory_as_error(f"{len(images)} pictures"), torch.inference_mode():
                text = self._processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
                inputs = self._processor(text=[text], images=images, return_tensors="pt").to(self._model.device)
                ids = self._model.generate(
                    **inputs, do_sample=False, num_beams=1, max_new_tokens=self._options.max_new_tokens
                )
        except OutOfMemoryError as exc:
            raise AnswerFailedError(f"{exc}; select fewer frames, or make them smaller (--side)") from exc
        except (ValueError, RuntimeError, IndexError) as exc:  # a processor that takes no such pictures, or so many
            raise AnswerFailedError(f"the model cannot take this input: {first_line(exc)}") from exc
        given = int(inputs["input_ids"].shape[1])
        new = ids[0, given:]
        return Reply(
            text=self._processor.batch_decode([new], skip_special_tokens=True)[0].strip(),
            model=str(self.identity["name"]),
            prompt_tokens=given,
            new_tokens=len(new),
            finish="length" if len(new) >= self._options.max_new_tokens else "stop",
        )

    def _content(self, pictures: Sequence[Picture], prompt: str) -> list[dict[str, str]]:
        content: list[dict[str, str]] = []
        for when in times_of(pictures):
            content += [{"type": "text", "text": when}] if self._options.times else []
            content.append({"type": "image"})
        return [*content, {"type": "text", "text": prompt}]


def load_transformers_answerer(name_or_folder: str, options: AnswererOptions) -> TransformersAnswerer:
    """Load a model and its processor.

    Raises:
        ModelLoadError: it is missing, damaged or incomplete, or has no chat template.
        OutOfMemoryError: it does not fit on the device.
        InputError: device or dtype is not legal.
    """
    folder = find_folder(name_or_folder, _PATTERNS, use="--answer transformers:FOLDER")
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    model, processor = _load(name_or_folder, str(folder), dtype)
    with out_of_memory_as_error(f"moving {name_or_folder} to {device}"):
        model = model.eval().to(device)
    import transformers

    files = CheckpointFiles(name_or_folder, folder, {}, tuple(sorted(folder.glob("*.safetensors"))), 0)
    identity = {
        "kind": "transformers",
        "name": name_or_folder,
        "revision": files.revision,
        "weights": files.weights_digest(),
        "settings": files.settings_digest(),
        "dtype": dtype_name(dtype),
        "device": device.type,
        "transformers": transformers.__version__,
        "side": options.side,
        "times": options.times,
        "max_new_tokens": options.max_new_tokens,
    }
    return TransformersAnswerer(model, processor, options, identity)


def _load(name: str, folder: str, dtype: torch.dtype) -> tuple[Any, Any]:
    ensure_torchvision()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        with out_of_memory_as_error(f"loading {name}"):
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model, report = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except OutOfMemoryError:
        raise
    except Exception as exc:  # transformers and safetensors raise what they like; one seam for all
        raise ModelLoadError(f"{name} cannot be loaded as a model of pictures and text: {first_line(exc)}") from exc
    missing = sorted(map(str, report.get("missing_keys") or ()))
    if missing:
        raise ModelLoadError(f"{name} lacks {len(missing)} weights, first {missing[0]!r}; download it again")
    if not getattr(processor, "chat_template", None):
        raise ModelLoadError(f"{name} has no chat template, so it cannot be asked; take an instruction-tuned model")
    return model, processor


ANSWERER = AnswererKind(name="transformers", form="transformers:FOLDER", is_legal=bool, load=load_transformers_answerer)
