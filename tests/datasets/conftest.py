from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal

import pooch
import pytest

from petri_scvi.datasets import synthetic_screen
from petri_scvi.datasets.cache import _download

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mudata import MuData


@pytest.fixture(scope="session")
def default_screen() -> MuData:
    """The screen at its default size; do not modify."""
    return synthetic_screen()


@pytest.fixture(scope="session")
def small_screen() -> MuData:
    """Three pathways; do not modify."""
    return synthetic_screen(n_cells=600, n_pathways=3, image_dtype="uint8")


@dataclass
class Server:
    """Serves files on this machine, by name, in parts if asked to."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)  # of every answer
    break_after: int | None = None  # bytes of an answer after which the connection ends
    sends_parts: bool = True
    ending: Literal["length", "chunked", "close"] = "length"  # how an answer tells where it ends
    status: int | None = None  # instead of an answer
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # name and range asked for
    authorizations: list[str | None] = field(default_factory=list)  # header of each request

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: Server

    def do_GET(self) -> None:
        server, name = self.answers, self.path.lstrip("/")
        asked = self.headers.get("Range")
        server.requests.append((name, asked))
        server.authorizations.append(self.headers.get("Authorization"))
        if name.startswith("moved/"):  # as the Hugging Face hub does
            self.send_response(302)
            self.send_header("Location", f"/{name.removeprefix('moved/')}")
            for key, value in server.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.status is not None:
            self.send_response(server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        tag = f'"{hash(content)}"'
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.sends_parts else 0
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        if start > len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.ending == "length":
            self.send_header("Content-Length", str(len(content) - start))
        elif server.ending == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("ETag", tag)
        self.send_header("Connection", "close")
        self.end_headers()
        sent = content[start:][: server.break_after]
        if server.ending != "chunked":
            self.wfile.write(sent)
        else:
            self.wfile.write(f"{len(sent):x}\r\n".encode() + sent + b"\r\n")
            if server.break_after is None:
                self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine; nothing leaves it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_download, "BLOCK_BYTES", 1)  # of a block that is not complete, nothing is kept
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        handler.answers = server = Server(f"http://127.0.0.1:{listener.server_port}")  # type: ignore[attr-defined]
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        listener.shutdown()
        thread.join()


@pytest.fixture
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep a test away from the cache of whoever runs it."""
    monkeypatch.delenv("PETRI_SCVI_CACHE", raising=False)
    folder = tmp_path / "user"
    monkeypatch.setattr(pooch, "os_cache", lambda _: folder)
    return folder
