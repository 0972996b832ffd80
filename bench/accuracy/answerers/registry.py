"""VideoQA models by name.

* ``openai:URL#MODEL``: any server that speaks OpenAI's chat completions (vLLM, SGLang, Ollama, OpenAI itself ...). The
  key is read from the environment variable ``OPENAI_API_KEY``; a server that needs none gets a made-up one.
* ``transformers:FOLDER`` or ``transformers:OWNER/NAME``: a model in this process (Qwen2-VL, Qwen2.5-VL, LLaVA ...).

A new kind is a file that ends in ``ANSWERER = AnswererKind(...)``, and a line below.
"""

from __future__ import annotations

from bench.accuracy.answerers.interface import Answerer, AnswererKind, AnswererOptions
from hybrid.errors import InputError
from hybrid.registry import Registry

__all__ = ["ANSWERERS", "open_answerer", "parse_answerer"]

ANSWERERS: Registry[AnswererKind] = Registry(
    "answerer",
    "ANSWERER",
    {
        "openai": "bench.accuracy.answerers.openai_api",
        "transformers": "bench.accuracy.answerers.transformers_model",
    },
)


def parse_answerer(text: str) -> tuple[AnswererKind, str]:
    """The kind of a model, and what follows the colon.

    Raises:
        InputError: an unknown kind, or another form than the kind's.
    """
    name, _, rest = text.partition(":")
    if name in ANSWERERS.names and (kind := ANSWERERS.find(name)).is_legal(rest):
        return kind, rest
    raise InputError(f"the answerer is {text!r}; legal are {' and '.join(kind.form for kind in ANSWERERS)}")


def open_answerer(text: str, options: AnswererOptions | None = None) -> Answerer:
    """The model of that name; see the module.

    Raises:
        InputError: an unknown kind, or another form than the kind's.
        ModelError: a checkpoint cannot be loaded.
        MissingDependencyError: the client library is not installed.
    """
    kind, rest = parse_answerer(text)
    return kind.load(rest, options or AnswererOptions())
