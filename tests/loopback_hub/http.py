"""HTTP of the loopback Hub: reads a request, meets the faults on demand, asks the routes, answers, writes the log."""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .faults import Fault, Faults
from .store import Store

_CHUNK = 1 << 14


@dataclasses.dataclass(frozen=True)
class Request:
    """A line of the log.

    Attributes:
        user: who the token belongs to; ``None`` without a valid one.
        received: bytes of the body that came.
        status: of the answer; 0 where the connection was broken.
    """

    method: str
    path: str
    user: str | None
    received: int
    status: int


@dataclasses.dataclass
class Call:
    """A request as the routes see it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes
    token: str | None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass
class Answer:
    """``content`` is sent as JSON unless it is bytes."""

    content: Any = b""
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


class HubError(Exception):
    """An error as the Hub answers it: status, message, and what ``X-Error-Code`` says."""

    def __init__(self, status: int, message: str, code: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.answer = Answer({"error": message, **fields}, status, {"X-Error-Message": message})
        if code:
            self.answer.headers["X-Error-Code"] = code


class HubServer(ThreadingHTTPServer):
    """One thread a connection."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, store: Store, faults: Faults, log: list[Request]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store, self.faults, self.log = store, faults, log

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error of ours; anything else is printed."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def _serve(self) -> None:
        received = status = 0
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        try:
            fault = self.server.faults.next(f"{self.command} {self.path}")
            length = int(self.headers.get("Content-Length") or 0)
            if fault is not None and fault.status is None and fault.after_bytes is not None:
                received = len(self._read(min(fault.after_bytes, length)))
                self._break()
                return
            body = self._read_chunked() if self.headers.get("Transfer-Encoding") == "chunked" else self._read(length)
            received = len(body)
            answer = self._answer(body, token, fault)
            if fault is not None and fault.status is None:
                self._break()
                return
            status = answer.status
            self._send(answer)
        finally:
            user = self.server.store.users.get(token, (None,))[0]
            self.server.log.append(Request(self.command, self.path, user, received, status))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _answer(self, body: bytes, token: str | None, fault: Fault | None) -> Answer:
        from . import routes, routes_of_files  # noqa: F401  (they fill the table)
        from .routing import route

        if fault is not None and fault.status is not None:
            threading.Event().wait(fault.silence)  # not time.sleep, which tests replace
            return Answer({"error": fault.message}, fault.status, {"X-Error-Message": fault.message, **fault.headers})
        parts = urlsplit(self.path)
        call = Call(self.command, parts.path, parse_qs(parts.query), self.headers, body, token)
        try:
            with self.server.store.lock:
                return route(self.server.store, call, f"http://{self.headers['Host']}")
        except HubError as error:
            return error.answer

    def _send(self, answer: Answer) -> None:
        as_bytes = isinstance(answer.content, bytes)
        content = answer.content if as_bytes else json.dumps(answer.content).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/octet-stream" if as_bytes else "application/json; charset=utf-8")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _read(self, length: int) -> bytes:
        pieces = []
        while length > 0 and (piece := self.rfile.read(min(length, _CHUNK))):
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def _read_chunked(self) -> bytes:
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self._read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _break(self) -> None:
        """Reset the connection, as a dying network does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args: Any) -> None:
        """The log is a list."""
