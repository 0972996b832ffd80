"""A small data set on a drawn clip, and a server that speaks OpenAI's chat completions."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.accuracy import __main__ as runner
from hybrid.clip.open_clip import ClipEncoder
from hybrid.clip.registry import load_encoder
from hybrid.engine import models
from hybrid.values import ByteArray
from tests.demo_clip import DEMO_SCENES, write_demo_clip

KEY = "a-key-of-this-test"

Run = Callable[..., int]
METHODS = ("--method", "hybrid", "--method", "aks", "--method", "uniform")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips: ``one.mp4`` (19 s) and ``two.mp4`` (21 s)."""
    folder = tmp_path_factory.mktemp("videos")
    write_demo_clip(folder / "one.mp4", DEMO_SCENES[:3])
    write_demo_clip(folder / "two.mp4", DEMO_SCENES[3:])
    return folder


@pytest.fixture(scope="session")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five questions in LongVideoBench's form, of which the last is about a video that is not there."""
    rows = [
        ("one_0", "one.mp4", "When is the red circle shown?", [48]),
        ("one_1", "one.mp4", "When is the green square shown?", [192, 240]),
        ("one_2", "one.mp4", "What comes after the square?", [300]),
        ("two_0", "two.mp4", "When is the blue circle shown?", [24]),
        ("gone_0", "gone.mp4", "Who is there?", [24]),
    ]
    documents = [
        {
            "id": name,
            "video_path": video,
            "question": question,
            "candidates": ["at once", "later", "never"],
            "correct_choice": 1,
            "position": position,
            "topic_category": "KS",
            "question_category": "S2O",
            "level": "L1-Perception",
            "duration_group": 15,
            "duration": 19.0,
        }
        for name, video, question, position in rows
    ]
    place = tmp_path_factory.mktemp("annotations") / "lvb_val.json"
    place.write_text(json.dumps(documents))
    return place


@dataclass(slots=True)
class Server:
    """What a server was asked, and what it says.

    Attributes:
        url: its base.
        requests: bodies, in order of arrival; ``authorization`` is the header.
        replies: gives the text of a reply for a body, or the status of a refusal, or that and its message.
    """

    url: str
    replies: Callable[[dict[str, Any]], str | int | tuple[int, str]]
    requests: list[dict[str, Any]] = field(default_factory=list)

    def pictures(self, number: int) -> list[ByteArray]:
        """The pictures of a request, decoded."""
        parts = self.requests[number]["messages"][0]["content"]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        assert all(url.startswith("data:image/jpeg;base64,") for url in urls)
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in urls]

    def texts(self, number: int) -> list[str]:
        """The texts of a request."""
        parts = self.requests[number]["messages"][0]["content"]
        return [part["text"] for part in parts if part["type"] == "text"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A real HTTP server on this machine, which answers "B" unless a test says otherwise."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    kept = Server("", lambda body: "B")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kept.requests.append({**body, "path": self.path, "authorization": self.headers["Authorization"]})
            said = kept.replies(body)
            status, message_of = (
                said if isinstance(said, tuple) else (said if isinstance(said, int) else 200, "not now")
            )
            document: dict[str, Any] = {"error": {"message": message_of}}
            if isinstance(said, str):
                message = {"role": "assistant", "content": said}
                document = {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "served-model",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                    "usage": {"prompt_tokens": 70, "completion_tokens": 2, "total_tokens": 72},
                }
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the test's output."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{listening.server_address[1]}/v1"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield kept
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture
def whole_run(videos: Path, annotations: Path, archive: Path, clip_folder: Path, gens_folder: Path) -> Run:
    """The command, with five frames of the clips and the small models; what a test adds comes last."""

    def command(out: Path, *more: str, methods: tuple[str, ...] = METHODS) -> int:
        given = ["--dataset", "longvideobench", "--data", str(annotations), "--videos", str(videos)]
        given += ["--archive", str(archive), "--encoder", f"local-dir:{clip_folder}", "--sampler", str(gens_folder)]
        return runner.main([*given, *methods, "--frames", "5", "--resamples", "50", "--out", str(out), *more])

    return command


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> ClipEncoder:
    return load_encoder(f"local-dir:{clip_folder}", device="cpu")


@pytest.fixture
def run(whole_run: Run, encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same without the picture, and with CLIP loaded once for all tests."""
    monkeypatch.setattr(runner, "save_plot", lambda *_, **__: False)
    monkeypatch.setattr(models, "load_encoder", lambda *_, **__: encoder)
    return whole_run
