"""What the live page's tests share: an estimator that follows a bright bar, a clock turned by hand, a server."""

import http.client
import json
import threading
from contextlib import contextmanager

import numpy as np

from clips import moving_clip
from signstream.inference.live_page.server import LiveServer


class Clock:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


class Follows:
    """Finds a signer whose nose is where a picture is brightest; a joint that is missing is 0, 0, 0."""

    def __init__(self, clip=None):
        self.clip = moving_clip(40, 1) if clip is None else clip
        self.seen, self.resets, self.closed = 0, 0, False

    def __call__(self, picture):
        frame = self.clip[self.seen % len(self.clip)].copy()
        column = picture.sum((0, 2)).argmax() if picture.any() else 0
        frame[:, 0] += (column - frame[0, 0]) * (frame[:, 2] > 0)
        self.seen += 1
        return frame.astype(np.float32)

    def reset(self):
        self.resets += 1

    def close(self):
        self.closed = True


@contextmanager
def serving(show, page="<title>page</title>"):
    server = LiveServer(show, page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(server, path, body=b"", *, method="POST", **headers):
    """(status, answer) of a request as the page would make it, but for these headers; None leaves one out."""
    origin = f"http://127.0.0.1:{server.server_port}"
    usual = {"Host": origin[7:], "Origin": origin, "Content-Length": str(len(body))} if method == "POST" else {}
    given = {**usual, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in given, skip_accept_encoding=True)
    for name, value in given.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else text


def within(server, action, **values):
    """The path of an action."""
    query = "&".join(f"{name}={value}" for name, value in values.items())
    return f"/{server.token}/{action}" + (f"?{query}" if query else "")
