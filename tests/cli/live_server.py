"""A real HTTP server on a Unix socket, with canned answers: a program, as far as a client sees one.

Its answers can be wrong in every way in which a program's can: cut short, garbled, late, refused.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import chain
from pathlib import Path
from typing import Any, final

NOW = 1000.0
EPOCH = 1_700_000_000.0
Answer = Callable[["Handler"], None]


def end(kind: str, error: str | None, ago: float, **more: Any) -> dict[str, Any]:
    """One end of a run, as a report has it."""
    return {
        "time": NOW - ago,
        "kind": kind,
        "error": error,
        "traceback": [],
        "cause": None,
        "lasted": 2.0,
        "was_ready": True,
        "origin": 1,
        **more,
    }


def manifold(name: str, state: str = "started", **more: Any) -> dict[str, Any]:
    """One manifold's report."""
    return {
        "name": name,
        "state": state,
        "since": 12.0,
        "inputs": [],
        "optional": [],
        "live": [],
        "roles": {},
        "waiting_for": [],
        "starts": 1,
        "ends": 0,
        "failures": 0,
        "retry_in": None,
        "why": None,
        "stop_cause": None,
        "stuck": None,
        "history": [],
        "worker": None,
        **more,
    }


def report(*manifolds: dict[str, Any], state: str = "alive", reason: str | None = None) -> Any:
    """A program's report."""
    return {
        "name": "shop",
        "now": NOW,
        "epoch": EPOCH,
        "tomb": {"name": "shop", "state": state, "reason": reason, "suppressed": []},
        "manifolds": {one["name"]: one for one in manifolds},
    }


WAITS = "web waits for db; db is backing off 0.2 s more after ValueError: no, 2nd failure"
TROUBLED = report(
    manifold("clock"),
    manifold(
        "db",
        "delayed",
        since=0.3,
        starts=2,
        why="ValueError: no",
        failures=2,
        retry_in=0.2,
        history=[
            end("stopped", None, 60, cause="restart()"),
            end("error", "ValueError: no", 0.3, lasted=0.5),
        ],
    ),
    manifold("web", "waiting", since=72.0, starts=1, waiting_for=["db"]),
)
NOT_READY: dict[str, Any] = {
    "ready": False,
    "waiting": [
        {"manifold": "db", "state": "delayed", "sentence": WAITS.partition("; ")[2]},
        {"manifold": "web", "state": "waiting", "sentence": WAITS},
    ],
}
EXPLAINED = {
    "manifold": "web",
    "state": "waiting",
    "sentence": WAITS,
    "chain": [
        {"manifold": "web", "state": "waiting", "text": "web waits for db"},
        {"manifold": "db", "state": "delayed", "text": WAITS.partition("; ")[2]},
    ],
    "blast_radius": ["page", "cart"],
}
TASK = {"name": "db", "frames": ["db.py:7 in start"], "children": []}
STACKS = [{"name": "web", "frames": ["web.py:3 in start"], "children": [TASK]}]


def transition(text: str) -> dict[str, Any]:
    """An event, as the stream has it."""
    manifold_, _, states = text.partition(": ")
    before, _, after = states.partition(" -> ")
    told = {"time": NOW, "manifold": manifold_, "before": before, "after": after}
    return {**told, "cause": None, "origin": 1, "text": text}


def as_json(value: Any, status: int = 200) -> Answer:
    """Answer with JSON."""
    return as_bytes(json.dumps(value).encode(), status)


def as_bytes(body: bytes, status: int = 200, *, announced: int | None = None) -> Answer:
    """Answer with these bytes; more may be announced than come."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def as_stream(*parts: str | Iterable[str], is_whole: bool = True) -> Answer:
    """Answer with a stream of events in chunks; without its last chunk it has broken off."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        texts = chain.from_iterable([one] if isinstance(one, str) else one for one in parts)
        for data in (text.encode() for text in texts):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if is_whole:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def as_raw(data: bytes) -> Answer:
    """Write `data` instead of an answer, and hang up."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(data)

    return answer


def silence(handler: Handler) -> None:
    """Never answer: wait until the client has enough."""
    handler.rfile.read(1)


@final
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]  # ours alone uses it

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.close_connection = True
        refusal = as_json({"error": f"nothing at {self.path}", "hint": "did you mean web?"}, 404)
        self.server.answers.get(self.path, refusal)(self)

    do_POST = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as there
        pass


@final
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        super().__init__(str(path), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that has enough


@contextmanager
def serving(path: Path, answers: dict[str, Answer] | None = None) -> Generator[Server]:
    """Serve `answers`, by path, on the socket `path`; a program in trouble by default."""
    given: dict[str, Answer] = {
        "/report": as_json(TROUBLED),
        "/readyz": as_json(NOT_READY, 503),
        "/explain/web": as_json(EXPLAINED),
        "/stacks": as_json({"web": STACKS, "db": []}),
        "/stacks/web": as_json(STACKS),
        "/trace.json": as_json([{"name": "web", "ph": "B"}]),
        **(answers or {}),
    }
    with Server(path, given) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            path.unlink(missing_ok=True)


def stale(path: Path) -> Path:
    """Leave a socket behind on which nobody listens."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    return path
