"""A package index on this machine (PEP 503), with wheels that a test has made; it can be told to serve something else."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from bundle import wheelfile


class Index:
    """Serves the wheels of a folder while the `with` block lasts.

    Attributes:
        served: names of the wheels that were asked for, in order.
        instead: by a wheel's name, the bytes that are served in its place; `None`: there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.served: list[str] = []
        self.instead: dict[str, bytes | None] = {}
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, _, name = self.path.strip("/").partition("/")
                found = (
                    index._page(folder, name) if kind == "simple" else index._wheel(folder, name)
                )
                self.send_response(404 if found is None else 200)
                self.send_header(
                    "Content-Type", "text/html" if kind == "simple" else "application/zip"
                )
                self.send_header("Content-Length", str(len(found or b"")))
                self.end_headers()
                self.wfile.write(found or b"")

            def log_message(self, *_: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02])

    @property
    def address(self) -> str:
        """For `--index-url`."""
        return f"http://127.0.0.1:{self._server.server_port}/simple/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _page(self, folder: Path, name: str) -> bytes:
        lines = [
            f'<a href="/files/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>'
            for path in sorted(folder.glob("*.whl"))
            if wheelfile.parse_name(path.name).name == name.strip("/")
        ]
        return "\n".join(["<!DOCTYPE html><html><body>", *lines, "</body></html>"]).encode()

    def _wheel(self, folder: Path, name: str) -> bytes | None:
        self.served.append(name)
        return self.instead[name] if name in self.instead else (folder / name).read_bytes()
