"""A proxy in front of an object store that fails now and then, by a seed."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

__all__ = ["Faults", "UnreliableProxy"]

_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True, slots=True)
class Faults:
    """How requests fail.

    Attributes:
        unavailable: the share that is answered 503 and not passed on.
        late: the share that is passed on, and answered 503 all the same.
        cut: the share whose connection is closed; half of them before the request is passed on, half after,
            in the middle of the answer.
        delay_seconds: every answer comes so much later.
        seed: of the choice.
    """

    unavailable: float = 0.0
    late: float = 0.0
    cut: float = 0.0
    delay_seconds: float = 0.0
    seed: int = 1


NO_FAULTS = Faults()


class UnreliableProxy:
    """Listens on loopback while it is used as a context manager; ``faults`` may be replaced at any time."""

    def __init__(self, endpoint: str, faults: Faults = NO_FAULTS) -> None:
        self.faults = faults
        self.requests = 0
        self.failed = 0
        self._target = urllib.parse.urlsplit(endpoint).netloc
        self._dice = random.Random(faults.seed)
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _pass(self) -> None:
                proxy._answer(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> UnreliableProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self._draw()
        time.sleep(self.faults.delay_seconds)
        if fault == "unavailable":
            self._refuse(request)
            return
        if fault == "cut":
            self._close(request)
            return
        connection = http.client.HTTPConnection(self._target, timeout=30)
        try:
            connection.request(request.command, request.path, body, dict(request.headers))
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if fault == "late":
            self._refuse(request)
            return
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_ONE_CONNECTION:
                request.send_header(name, value)
        length = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(data))
        request.send_header("Content-Length", length or "0")
        request.end_headers()
        if fault == "cut in the answer":
            request.wfile.write(data[: len(data) // 2])
            self._close(request)
        else:
            request.wfile.write(data)

    def _draw(self) -> str:
        """How the next request fails; empty if it does not."""
        faults = self.faults
        shares = {"unavailable": faults.unavailable, "late": faults.late}
        shares |= {"cut": faults.cut / 2, "cut in the answer": faults.cut / 2}
        with self._lock:
            self.requests += 1
            drawn = self._dice.random()
            for name, share in shares.items():
                drawn -= share
                if drawn < 0:
                    self.failed += 1
                    return name
            return ""

    def _refuse(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(503)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _close(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.wfile.flush()
        request.connection.shutdown(socket.SHUT_RDWR)
