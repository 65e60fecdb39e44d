"""The live page's server: the page alone is answered, on this machine alone, and whatever else comes, it stands."""

import random
import socket
import struct
from types import SimpleNamespace

import pytest

from live_shows import Clock, Follows, ask, serving, within
from signstream.errors import UserError
from signstream.inference.live_page import server as server_module
from signstream.inference.live_page.server import LARGEST, LiveServer
from signstream.inference.live_page.session import Readers
from signstream.inference.live_page.show import STALE, Show
from signstream.inference.live_page.sources import Camera, Demo
from test_live_session import jpeg


@pytest.fixture(scope="module")
def place():
    clock = Clock()
    show = Show(Demo(30, now=clock), Readers(), now=clock)
    with serving(show) as server:
        yield SimpleNamespace(show=show, server=server, clock=clock)


@pytest.fixture
def server(place):
    """With nobody who reads."""
    place.clock.seconds += STALE + 1
    place.show.expire()
    return place.server


def test_the_page_and_a_conversation(server):
    status, page = ask(server, within(server, ""), method="GET")
    assert status == 200 and page == "<title>page</title>"
    status, begun = ask(server, within(server, "begin"))
    assert status == 200
    status, told = ask(server, within(server, "step", reader=begun["reader"]))
    assert status == 200 and told["news"][0]["count"] == 1 and told["news"][0]["signed"]
    status, told = ask(server, within(server, "end", reader=begun["reader"]))
    assert status == 200 and told["news"][0]["over"] and server.show.reader is None


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1" and server.address.startswith("http://127.0.0.1:")
    with pytest.raises(UserError, match="--port 0 takes any free one"):
        LiveServer(server.show, "", port=server.server_port)
    with pytest.raises(UserError, match="--port 70000"):
        LiveServer(server.show, "", port=70000)


def test_who_does_not_know_the_token_or_comes_from_elsewhere_is_refused(server):
    port, begin = server.server_port, within(server, "begin")
    for path in ("/", "/begin", f"/{'x' * 22}/begin", f"/{server.token}x/begin", f"/{server.token[:-1]}/begin", "/../"):
        assert ask(server, path)[0] == 403
        assert ask(server, path, method="GET")[0] == 403
    for origin in (None, "null", "http://evil.example", f"https://127.0.0.1:{port}", "http://127.0.0.1"):
        assert ask(server, begin, Origin=origin)[0] == 403
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", None, ""):
        assert ask(server, begin, Host=host)[0] == 421
        assert ask(server, within(server, ""), method="GET", Host=host or "x")[0] == 421
    assert server.show.reader is None, "nobody began"
    status, answer = ask(server, begin, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")
    assert status == 200 and answer["reader"]


def test_what_the_page_would_not_ask_is_refused_in_a_line(server):
    _, begun = ask(server, within(server, "begin"))
    step = within(server, "step", reader=begun["reader"])
    refusals = [
        (413, ask(server, step, Content_Length=str(LARGEST + 1))),
        (411, ask(server, step, Content_Length=None)),
        (411, ask(server, step, Transfer_Encoding="chunked")),
        *((400, ask(server, step, Content_Length=length)) for length in ("-1", "x", "1e3", "+1", "\xb2", "")),
        *((400, ask(server, f"{step}&seconds={value}")) for value in ("nan", "-1", "1e9", "inf", "", "9" * 12)),
        (400, ask(server, f"{step}&reader=again")),
        (400, ask(server, f"{step}&more=1")),
        (400, ask(server, within(server, "end", reader=begun["reader"]), b"body")),
        (404, ask(server, within(server, "shutdown"))),
        (404, ask(server, within(server, "begin"), method="GET")),
        (403, ask(server, within(server, "record", reader=begun["reader"], on=1))),
        (410, ask(server, within(server, "step", reader="%C3%A9%00"))),
        (409, ask(server, within(server, "begin"))),
        *((501, ask(server, step, method=method)) for method in ("PUT", "DELETE", "OPTIONS", "CONNECT")),
    ]
    for status, (given, answer) in refusals:
        assert given == status and "\n" not in answer["error"] and "Traceback" not in answer["error"]
    assert ask(server, step)[0] == 200


def test_a_fault_of_ours_is_a_line_to_the_page_and_the_next_step_goes_on(server, monkeypatch, capsys):
    _, begun = ask(server, within(server, "begin"))
    step = within(server, "step", reader=begun["reader"])
    with monkeypatch.context() as broken:
        broken.setattr(server.show.source, "look", lambda *_: [][1])
        status, answer = ask(server, step)
    assert status == 500 and answer["error"] == "a fault of the program: its terminal says more"
    assert "IndexError" in capsys.readouterr().err and ask(server, step)[0] == 200


def test_a_tab_that_closes_ends_the_work(server):
    _, begun = ask(server, within(server, "begin"))
    ask(server, within(server, "step", reader=begun["reader"]))
    assert server.show.session.clip is not None and ask(server, within(server, "begin"))[0] == 409
    assert ask(server, within(server, "end", reader=begun["reader"]), Content_Type="text/plain;charset=UTF-8")[0] == 200
    assert server.show.session.clip is None and ask(server, within(server, "begin"))[0] == 200


def test_pictures_come_and_a_broken_one_is_a_line():
    estimator = Follows()
    with serving(Show(Camera(estimator), Readers())) as server:
        _, begun = ask(server, within(server, "begin"))
        step = within(server, "step", reader=begun["reader"])
        for number in range(5):
            status, told = ask(server, f"{step}&seconds={1 + number / 10}", jpeg(bright=10 * number))
            assert status == 200 and told["news"][-1]["points"] and "picture" not in told["news"][-1]
        assert estimator.seen == 5 and sum(news["count"] for news in told["news"]) == 3
        no_picture = ask(server, f"{step}&seconds=2", b"no picture")
        assert no_picture == (422, {"error": "no picture: cannot identify image file"})
        assert ask(server, f"{step}&seconds=1", jpeg())[0] == 422
        assert ask(server, f"{step}&seconds=1.6", jpeg())[0] == 200


def mutated(draw: random.Random, message: bytes) -> bytes:
    """With some bytes changed, left out, doubled or put in, or cut."""
    content = bytearray(message)
    for _ in range(draw.randint(1, 2)):
        at = draw.randrange(len(content) + 1)
        kind = draw.choice((0, 0, 0, 0, 1, 2, 3, 4))
        if kind == 0 and at < len(content):
            content[at] = draw.randrange(256)
        elif kind == 1:
            del content[at : at + draw.randint(1, 40)]
        elif kind == 2:
            content[at:at] = content[at : at + draw.randint(1, 40)]
        elif kind == 3:
            content[at:at] = draw.choice(
                (b"\r\n", b"\0", b"%00", b"&reader=", b"\xff\xfe", b"9" * 30, b": ", b"HTTP/9")
            )
        elif len(content) > 20:
            del content[draw.randrange(20, len(content)) :]
    return bytes(content)


def sent(server, message: bytes) -> bytes:
    """The answer to raw bytes, behind which the client says no more."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as client:
        answer = b""
        try:
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(1 << 16):
                answer += piece
        except ConnectionError:
            pass  # it hung up, having read enough
    return answer


def test_a_thousand_mutated_messages_and_it_still_answers(capfd):
    draw, estimator = random.Random(5), Follows()
    with serving(Show(Camera(estimator), Readers())) as server:
        for number in range(1000):
            reader = server.show.reader or ask(server, within(server, "begin"))[1]["reader"]
            action = draw.choice(("step", "step", "step", "begin", "end", "record"))
            values = {"reader": reader} | ({"seconds": number} if action == "step" else {})
            path = within(server, action, **values if action != "begin" else {})
            body = jpeg(bright=20) if action == "step" else b""
            host = f"127.0.0.1:{server.server_port}"
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
            message = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
            answer = sent(server, mutated(draw, message))
            assert b"Traceback" not in answer and b"/signstream/" not in answer
        server.show.reader = None
        _, begun = ask(server, within(server, "begin"))
        assert ask(server, within(server, "step", reader=begun["reader"], seconds=5000), jpeg())[0] == 200
    assert estimator.seen > 50, "many are whole enough to be read"
    assert "Traceback" not in capfd.readouterr().err


def test_slow_clients_hold_nobody_up_and_are_let_go(server, monkeypatch):
    assert 0 < server_module.Handler.timeout <= 15
    monkeypatch.setattr(server_module.Handler, "timeout", 0.3)
    slow = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(8)]
    for client in slow:
        client.sendall(f"POST {within(server, 'begin')} HTTP/1.1\r\nHost: ".encode())
    assert ask(server, within(server, "begin"))[0] == 200
    for client in slow:
        client.settimeout(5)
        assert client.recv(100) == b""
        client.close()


def cut_off(server, start, body=b"", *, then=None):
    """What is answered to a request line, the page's own headers, and a body that is shorter than it says."""
    host = f"127.0.0.1:{server.server_port}"
    headers = f"{start} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: {9 * len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.server_port)) as client:
        client.settimeout(5)
        client.sendall(headers.encode() + body)
        if then is not None:
            return then(client)
        return client.recv(1 << 16)


def hang_up(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_what_a_client_does_is_no_fault_of_ours(server, monkeypatch, capfd):
    monkeypatch.setattr(server_module.Handler, "timeout", 0.2)
    step = within(server, "step", reader="x")
    assert b" 400 " in cut_off(server, "GET http://[/")
    assert b" 400 " in cut_off(server, f"POST {step}&a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8")
    assert b" 408 " in cut_off(server, f"POST {step}", b"half of it")
    cut_off(server, f"POST {step}", b"the page is closed", then=hang_up)
    assert ask(server, within(server, "begin"))[0] == 200
    assert capfd.readouterr() == ("", "")


def test_no_more_connections_than_there_is_room_for(server, monkeypatch):
    monkeypatch.setattr(server_module.Handler, "timeout", 5)
    many = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(server_module.MOST_CONNECTIONS)]
    one_more = socket.create_connection(("127.0.0.1", server.server_port))
    one_more.settimeout(1)
    assert one_more.recv(100) == b""
    for client in (*many, one_more):
        client.close()
