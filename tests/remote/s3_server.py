"""An S3-compatible server on loopback, in a process of its own: prints its address and serves until it is killed."""

from __future__ import annotations

import threading


def main() -> None:
    """Serve."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
