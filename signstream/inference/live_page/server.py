"""The live page by HTTP, for this machine alone.

    server = LiveServer(show, page, port=0)      # on 127.0.0.1; 0: any free port
    print(server.address)                        # http://127.0.0.1:PORT/TOKEN/
    server.serve_forever()

GET  /TOKEN/                                                  the page
POST /TOKEN/begin, step?reader=R[&seconds=S], record?reader=R&on=1, end?reader=R     JSON; a step may bring a JPEG

A request is answered if it names this address as its host (so no other name leads here), knows the token and, if it is
a POST, comes from the page itself and says how long it is. Whatever else comes is refused with a line of JSON.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import threading
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from signstream.errors import UserError, one_line
from signstream.inference.live_page.show import Refused, Show

HOST = "127.0.0.1"
LARGEST = 4 << 20  # bytes of a picture
LONGEST_WAIT = 10  # seconds for a piece of a request
MOST_CONNECTIONS = 32
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
PARAMETERS = {"begin": (), "step": ("reader", "seconds"), "record": ("reader", "on"), "end": ("reader",)}


class LiveServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, show: Show, page: str, *, port: int = 0) -> None:
        self.show, self.page, self.token = show, page.encode(), secrets.token_urlsafe(16)
        self.room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"--port {port}: {one_line(str(error))}; --port 0 takes any free one") from None
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def service_actions(self) -> None:
        self.show.expire()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A connection that is one too many is closed at once."""
        if self.room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


class Handler(BaseHTTPRequestHandler):
    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "SignStream", ""
    timeout = LONGEST_WAIT
    wbufsize, disable_nagle_algorithm = 1 << 16, True  # an answer goes at once, and in one piece

    def do_GET(self) -> None:
        try:
            if self._asked() != "":
                raise Refused(HTTPStatus.NOT_FOUND, "the page alone can be fetched")
        except Refused as refused:
            self._refuse(refused)
        else:
            self._answer(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        try:
            action = self._asked()
            self._check_origin()
            told = self._act(action, self._body())
        except Refused as refused:
            self._refuse(refused)
        except Exception:  # ours; the client learns no more than that
            traceback.print_exc()
            self._refuse(Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the program: its terminal says more"))
        else:
            self._answer(HTTPStatus.OK, json.dumps(told, separators=(",", ":")).encode(), "application/json")

    def _asked(self) -> str:
        """What stands behind the token."""
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "no host of that name is here")
        match = re.fullmatch(r"/([\w-]{1,64})/(\w{0,16})", self._url().path, re.ASCII)
        if match is None or not secrets.compare_digest(match[1], self.server.token):
            raise Refused(HTTPStatus.FORBIDDEN, "open the address that the program printed, with its token")
        return match[2]

    def _url(self) -> SplitResult:
        try:
            return urlsplit(self.path)
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "no address") from None

    def _check_origin(self) -> None:
        if self.headers.get_all("Origin", []) not in [[f"http://{host}"] for host in self.server.hosts]:
            raise Refused(HTTPStatus.FORBIDDEN, "asked by another page than this address's own")

    def _body(self) -> bytes:
        lengths = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding") is not None or not lengths:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "how long? Content-Length is needed")
        if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,20}", lengths[0], re.ASCII):
            raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        if int(lengths[0]) > LARGEST:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a picture has at most {LARGEST >> 20} MB")
        try:
            body = self.rfile.read(int(lengths[0]))
        except OSError:  # it waited too long, or the page was closed
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the rest of the request did not come") from None
        if len(body) < int(lengths[0]):
            raise Refused(HTTPStatus.BAD_REQUEST, "shorter than its Content-Length")
        return body

    def _act(self, action: str, body: bytes) -> dict[str, Any]:
        if action not in PARAMETERS:
            raise Refused(HTTPStatus.NOT_FOUND, f"one of {', '.join(PARAMETERS)} is expected")
        given = parse_qsl(self._url().query, keep_blank_values=True)  # of a line of 64 KB at most
        values, show = dict(given), self.server.show
        if len(values) < len(given) or set(values) - set(PARAMETERS[action]):
            raise Refused(HTTPStatus.BAD_REQUEST, "a parameter that is not known, or twice")
        if body and action != "step":
            raise Refused(HTTPStatus.BAD_REQUEST, "a step alone has a body")
        if action == "begin":
            return show.begin()
        reader = values.get("reader", "")
        if action == "record":
            return show.record(reader, values.get("on") == "1")
        return show.end(reader) if action == "end" else show.step(reader, body, _seconds(values.get("seconds", "0")))

    # -- answers

    def _refuse(self, refused: Refused) -> None:
        """And hangs up: what else the client sends may belong to this request."""
        self.close_connection = True
        self._answer(refused.status, json.dumps({"error": one_line(refused.why)}).encode(), "application/json")

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses: a request line or headers that are none, a method that is not known."""
        self._refuse(Refused(code, message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """Addresses hold the token: nothing is logged."""


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII):
        raise Refused(HTTPStatus.BAD_REQUEST, "seconds is no number of seconds")
    return float(text)
