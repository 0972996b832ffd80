"""A server with the routes of ``vllm serve`` that are used, over :mod:`tests.gens.vllm_engine`.

Messages become tokens with the checkpoint's own chat template, and embeddings are decoded as vLLM decodes them.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from tests.gens.vllm_engine import Engine

Change = Callable[[dict[str, Any]], dict[str, Any] | tuple[int, str]]


@dataclass(slots=True)
class VllmServer:
    """A server, what it was asked, and how it is to answer.

    Attributes:
        url: base of its routes.
        engine: what writes.
        models: what it says that it serves.
        key: that it wants; None: whichever.
        page: what it shows in place of all replies; None: nothing else.
        hold: is called with each question before it is answered, and may wait.
        change: makes another reply, or a status and a message, of a reply.
        requests: bodies, in order of arrival.
    """

    engine: Engine
    url: str = ""
    models: list[dict[str, Any]] = field(default_factory=list)
    key: str | None = None
    page: bytes | None = None
    hold: Callable[[dict[str, Any]], None] = lambda body: None
    change: Change = lambda reply: reply
    requests: list[dict[str, Any]] = field(default_factory=list)
    _arrived: threading.Barrier | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def images(self, number: int) -> list[dict[str, Any]]:
        """The parts of a request that hold an image."""
        content = self.requests[number]["messages"][-1]["content"]
        return [part for part in content if part["type"] == "image_embeds"]

    def wait_for(self, count: int) -> None:
        """From now on nobody is answered before so many questions are there."""
        self._arrived = threading.Barrier(count)

    def answer(self, body: dict[str, Any]) -> dict[str, Any] | tuple[int, str]:
        """What a question gets."""
        with self._lock:
            self.requests.append(body)
        if self._arrived is not None:
            self._arrived.wait(timeout=60)
        if not any(body["model"] == model["id"] for model in self.models):
            return 404, f"The model `{body['model']}` does not exist."
        self.hold(body)
        with self._lock:
            return self.change(self._complete(body))

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = self.engine.tokenizer(self._text(body["messages"]), add_special_tokens=False)["input_ids"]
        parts = [part for part in body["messages"][-1]["content"] if part["type"] == "image_embeds"]
        images = [part["image_embeds"] for part in parts]
        read, new, finish = self.engine.write(
            ids,
            torch.cat([decoded(image["image_embeds"]) for image in images]),
            torch.stack([decoded(image["image_grid_thw"]) for image in images]),
            max_tokens=body["max_completion_tokens"],
            repetition_penalty=body["repetition_penalty"],
            stop_token_ids=body["stop_token_ids"],
            regex=body.get("structured_outputs", {}).get("regex"),
        )
        assert body["temperature"] == 0.0
        assert body["return_token_ids"] is True
        text = self.engine.tokenizer.decode(new, skip_special_tokens=True)
        message = {"role": "assistant", "content": text}
        usage = {
            "prompt_tokens": len(read),
            "completion_tokens": len(new),
            "total_tokens": len(read) + len(new),
            "prompt_tokens_details": {"cached_tokens": 5},
        }
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "token_ids": new}],
            "usage": usage,
            "prompt_token_ids": read,
        }

    def _text(self, messages: list[dict[str, Any]]) -> str:
        def shown(part: dict[str, Any]) -> dict[str, Any]:
            return {"type": "image"} if part["type"] == "image_embeds" else part

        turns = [
            {
                **turn,
                "content": list(map(shown, turn["content"])) if isinstance(turn["content"], list) else turn["content"],
            }
            for turn in messages
        ]
        text: str = self.engine.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return text


def decoded(text: str) -> torch.Tensor:
    """A tensor as it came over the wire."""
    tensor: torch.Tensor = torch.load(io.BytesIO(base64.b64decode(text, validate=True)), weights_only=True)
    return tensor


@contextlib.contextmanager
def served(folder: Path) -> Iterator[VllmServer]:
    """A checkpoint behind a port of this machine, until the block ends."""
    server = VllmServer(Engine(folder), models=[{"id": str(folder), "object": "model", "root": str(folder)}])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._may() and self.path == "/v1/models":
                self._send(200, {"object": "list", "data": server.models})
            elif self.path != "/v1/models":
                self._refuse(404, "Not Found")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self._may():
                return
            if self.path != "/v1/chat/completions":
                self._refuse(404, "Not Found")
                return
            answer = server.answer(body)
            if isinstance(answer, tuple):
                self._refuse(*answer)
            else:
                self._send(200, answer)

        def _may(self) -> bool:
            if server.key is None or self.headers["Authorization"] == f"Bearer {server.key}":
                return True
            self._refuse(401, "Unauthorized")
            return False

        def _refuse(self, status: int, message: str) -> None:
            self._send(status, {"error": {"message": message, "type": "Error", "param": None, "code": status}})

        def _send(self, status: int, document: dict[str, Any]) -> None:
            raw, kind = json.dumps(document).encode(), "application/json"
            if server.page is not None:
                raw, kind = server.page, "application/json" if server.page[:1] == b"{" else "text/html"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            with contextlib.suppress(ConnectionError):  # a client that did not wait
                self.end_headers()
                self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        yield server
        http.shutdown()
        thread.join()
