"""The HTTP server, over streams in memory, so that time is Trio's; sockets where they matter."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import (
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from trioworker.backends.http import Handler, Limits, Request, Response, Send, Server

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Client = trio.StapledStream[Any, Any]


class Listener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """Connects in memory."""

    def __init__(self, pair: Callable[[], tuple[Client, Client]] = memory_stream_pair) -> None:
        self._pair = pair
        self._send, self._receive = trio.open_memory_channel[Client](100)

    def connect(self) -> Client:
        client, server = self._pair()
        self._send.send_nowait(server)
        return client

    async def accept(self) -> Client:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._receive.close()
        await trio.lowlevel.checkpoint()


@attrs.define
class Serving:
    server: Server
    listener: Listener
    seen: list[Request]

    async def answer(self, data: bytes, *, eof: bool = False) -> bytes:
        """Send `data`, and return all that comes until the server hangs up."""
        client = self.listener.connect()
        await client.send_all(data)
        if eof:
            await client.send_eof()
        return await all_of(client)


async def all_of(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(part) async for part in stream])


async def some_of(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    received = b""
    while end not in received:
        data = await stream.receive_some()
        assert data, received
        received += data
    return received


async def ok(request: Request) -> Response:
    return Response(body=b"/".join(part.encode() for part in request.parts) + b"!")


@asynccontextmanager
async def serving(
    handler: Handler = ok,
    limits: Limits | None = None,
    listener: Listener | None = None,
) -> AsyncGenerator[Serving]:
    """Serve until the end of the block; all connections and tasks are gone then."""
    seen: list[Request] = []

    async def seeing(request: Request) -> Response:
        seen.append(request)
        return await handler(request)

    listener = listener or Listener()
    server = Server(seeing, limits=limits)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, [listener])
        yield Serving(server, listener, seen)
        server.close()
    assert server.connections == 0


def statuses(data: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", data)]


# -- what is fine ----


async def test_a_request_is_handed_over_whole(autojump_clock: MockClock) -> None:
    async with serving() as it:
        answer = await it.answer(
            b"POST /a%2Fb/%C3%B6?x=1&y=%20 HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\n"
            b"Connection: close\r\nContent-Length: 4\r\n\r\nbody"
        )

    [request] = it.seen
    assert (request.method, request.parts, request.body) == ("POST", ("a/b", "ö"), b"body")
    assert request.query == {"x": "1", "y": " "}
    assert (request.header("host"), request.header("accept")) == ("x", "a, b")
    assert request.header("cookie") is None
    assert request.peer_uid is None
    assert statuses(answer) == [200]
    assert answer.endswith("\r\n\r\na/b/ö!".encode())


async def test_headers_and_bodies_are_not_shown() -> None:
    request = Request(
        method="GET", parts=("",), query={}, headers=(("authorization", "secret"),), body=b"secret"
    )
    assert "secret" not in repr(request)


async def test_a_connection_can_be_used_again(autojump_clock: MockClock) -> None:
    async with serving() as it:
        client = it.listener.connect()
        for n in range(3):
            await client.send_all(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n)
            assert (await some_of(client, b"!")).endswith(b"%d!" % n)
        assert (it.server.connections, it.server.requests) == (1, 3)


async def test_requests_may_be_sent_ahead(autojump_clock: MockClock) -> None:
    async with serving() as it:
        answer = await it.answer(
            b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(3)), eof=True
        )

    assert statuses(answer) == [200, 200, 200]
    assert [request.parts for request in it.seen] == [("0",), ("1",), ("2",)]


async def test_one_that_is_cut_into_bytes_is_put_together(autojump_clock: MockClock) -> None:
    async with serving() as it:
        client = it.listener.connect()
        for byte in GET:
            await client.send_all(bytes([byte]))
            await wait_all_tasks_blocked()
        assert statuses(await some_of(client, b"!")) == [200]


async def test_a_body_in_chunks_is_put_together(autojump_clock: MockClock) -> None:
    async with serving() as it:
        await it.answer(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
        )

    assert it.seen[0].body == b"body"


async def test_who_asks_for_the_head_gets_no_body(autojump_clock: MockClock) -> None:
    async with serving() as it:
        answer = await it.answer(b"HEAD /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert b"Content-Length: 2\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_, status",
    [
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", 413),
        (b"HEAD * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"HEAD / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", 408),
    ],
)
async def test_who_asks_for_the_head_is_refused_without_a_body_and_no_error_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, request_: bytes, status: int
) -> None:
    async with serving() as it:
        answer = await it.answer(request_)

    assert statuses(answer) == [status]
    assert answer.endswith(b"\r\n\r\n")
    assert not caplog.records


@pytest.mark.parametrize(
    "following", [b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00 no HTTP\r\n\r\n"]
)
async def test_a_refusal_after_a_head_has_its_body(
    autojump_clock: MockClock, following: bytes
) -> None:
    async with serving() as it:
        client = it.listener.connect()
        await client.send_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert statuses(await some_of(client, b"\r\n\r\n")) == [200]
        await client.send_all(following)
        assert (await all_of(client)).partition(b"\r\n\r\n")[2]


async def test_who_waits_to_be_told_to_go_on_is_told(autojump_clock: MockClock) -> None:
    async with serving() as it:
        client = it.listener.connect()
        await client.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert statuses(await some_of(client, b"\r\n\r\n")) == [100]
        await client.send_all(b"ab")
        assert statuses(await some_of(client, b"!")) == [200]


async def test_http_1_0_is_spoken(autojump_clock: MockClock) -> None:
    async with serving() as it:
        assert statuses(await it.answer(b"GET / HTTP/1.0\r\n\r\n")) == [200]


# -- what is not ----


async def test_a_client_that_stops_sending_after_its_request_is_answered(
    autojump_clock: MockClock,
) -> None:
    async with serving() as it:
        assert statuses(await it.answer(GET, eof=True)) == [200]


@pytest.mark.parametrize(
    "data",
    [GET[:-1], GET[:10], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbody"],
)
async def test_one_that_stops_in_the_middle_gets_a_400(
    data: bytes, autojump_clock: MockClock
) -> None:
    async with serving() as it:
        answer = await it.answer(data, eof=True)

    assert statuses(answer) == [400]
    assert b"Connection: close" in answer
    assert it.seen == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /?%ff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /?a=%ff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /?" + b"a=1&" * 200 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_cannot_be_read_gets_a_400_and_the_connection_ends(
    data: bytes, autojump_clock: MockClock
) -> None:
    async with serving() as it:
        answer = await it.answer(data)
        assert statuses(await it.answer(GET, eof=True)) == [200]  # the others go on

    assert statuses(answer) == [400]
    assert len(it.seen) == 1


async def test_unknown_transfer_encodings_are_not_implemented(autojump_clock: MockClock) -> None:
    data = b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n"
    async with serving() as it:
        assert statuses(await it.answer(data)) == [501]


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0"])
async def test_other_versions_of_http_are_not_spoken(
    version: bytes, autojump_clock: MockClock
) -> None:
    async with serving() as it:
        assert statuses(await it.answer(b"GET / HTTP/%s\r\nHost: x\r\n\r\n" % version)) == [505]


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_a_head_that_is_too_large_gets_a_431(end: bytes, autojump_clock: MockClock) -> None:
    async with serving(limits=Limits(head=1000)) as it:
        answer = await it.answer(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1000 + end)
        fine = await it.answer(
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 900 + b"\r\n\r\n", eof=True
        )

    assert statuses(answer) == [431]
    assert statuses(fine) == [200]


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 1001\r\n\r\n",  # and nothing of it is read
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
    ],
)
async def test_a_body_that_is_too_large_gets_a_413(body: bytes, autojump_clock: MockClock) -> None:
    async with serving(limits=Limits(body=1000)) as it:
        answer = await it.answer(b"POST / HTTP/1.1\r\nHost: x\r\n" + body)

    assert statuses(answer) == [413]
    assert it.seen == []


@pytest.mark.parametrize(
    "every, seconds", [(0.1, 1.0), (0.001, 0.02)], ids=["slowly", "more than it may"]
)
async def test_a_refused_client_that_goes_on_sending_is_listened_to_only_for_a_while(
    every: float, seconds: float, autojump_clock: MockClock
) -> None:
    """So that it can read why; but neither for long nor to more than was allowed."""
    async with serving(limits=Limits(head=1000, body=1000)) as it:
        client = it.listener.connect()
        await client.send_all(b"x" * 1001)
        begun = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await trio.sleep(every)
                await client.send_all(b"x" * 100)
        assert trio.current_time() - begun == pytest.approx(seconds, abs=1.5 * every)
        assert statuses(await all_of(client)) == [431]


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"])
async def test_a_request_that_drips_gets_a_408_in_time(
    start: bytes, autojump_clock: MockClock
) -> None:
    async with serving(limits=Limits(request_seconds=10)) as it:
        client = it.listener.connect()
        begun = trio.current_time()
        await client.send_all(start)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, client)
            assert statuses(await all_of(client)) == [408]
            assert 10 <= trio.current_time() - begun <= 12
            nursery.cancel_scope.cancel()

    assert it.seen == []


async def drip(client: Client) -> None:
    for byte in b"G" * 100:
        await client.send_all(bytes([byte]))
        await trio.sleep(1)


async def test_a_connection_that_is_not_used_is_closed_without_a_word(
    autojump_clock: MockClock,
) -> None:
    async with serving(limits=Limits(request_seconds=10)) as it:
        begun = trio.current_time()
        assert await all_of(it.listener.connect()) == b""
        assert trio.current_time() - begun == 10
        client = it.listener.connect()
        await client.send_all(GET)
        await some_of(client, b"!")
        assert await all_of(client) == b""


async def test_a_client_that_takes_nothing_of_its_answer_is_dropped(
    autojump_clock: MockClock,
) -> None:
    async with serving(
        limits=Limits(answer_seconds=5), listener=Listener(lockstep_stream_pair)
    ) as it:
        client = it.listener.connect()
        await client.send_all(GET)
        await trio.sleep(4.9)
        assert it.server.connections == 1
        await trio.sleep(0.2)
        assert it.server.connections == 0


async def test_one_connection_too_many_is_turned_away_and_later_one_may_come(
    autojump_clock: MockClock,
) -> None:
    async with serving(limits=Limits(connections=2, request_seconds=100)) as it:
        first = [it.listener.connect() for _ in range(2)]
        await wait_all_tasks_blocked()
        assert statuses(await it.answer(GET)) == [503]
        await first[0].aclose()
        await wait_all_tasks_blocked()
        assert statuses(await it.answer(GET, eof=True)) == [200]
        await first[1].send_all(GET)
        assert statuses(await some_of(first[1], b"!")) == [200]


async def test_a_handler_that_fails_is_a_500_logged_once_and_the_connection_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Request) -> Response:
        if request.parts == ("fail",):
            raise ValueError("secret")
        return await ok(request)

    async with serving(fail) as it:
        answer = await it.answer(b"GET /fail HTTP/1.1\r\nHost: x\r\n\r\n" + GET, eof=True)

    assert statuses(answer) == [500, 200]
    assert b"secret" not in answer
    [record] = caplog.records
    assert (record.name, record.levelno) == ("trioworker.http", logging.ERROR)


async def test_a_long_path_in_the_log_is_marked_as_cut_off_so_that_a_mask_knows_its_end(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Request) -> Response:
        raise ValueError

    async with serving(fail) as it:
        await it.answer(b"GET /" + b"x" * 100 + b" HTTP/1.1\r\nHost: x\r\n\r\n", eof=True)
        await it.answer(b"GET /" + b"x" * 101 + b" HTTP/1.1\r\nHost: x\r\n\r\n", eof=True)

    whole, cut = caplog.messages
    assert whole == f"answering GET /{'x' * 100} failed"
    assert cut == f"answering GET /{'x' * 99}… failed"


async def test_an_answer_that_is_no_http_ends_that_connection_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: Request) -> Response:
        return Response(headers=(("X", "a\nb"),))

    async with serving(broken) as it:
        assert await it.answer(GET) == b""
        assert await it.answer(GET) == b""

    assert len(caplog.records) == 2


# -- streams ----


async def never(send: Send) -> None:
    await send(b"one")
    await trio.sleep_forever()


def streaming(body: Callable[[Send], Awaitable[None]]) -> Handler:
    async def answer(request: Request) -> Response:
        return Response(body=body)

    return answer


async def test_a_stream_comes_piece_by_piece_and_ends_the_connection(
    autojump_clock: MockClock,
) -> None:
    async def body(send: Send) -> None:
        for piece in (b"one", b"two"):
            await send(piece)
            await trio.sleep(100)

    async with serving(streaming(body)) as it:
        client = it.listener.connect()
        await client.send_all(GET)
        begun = trio.current_time()
        assert b"3\r\none\r\n" in await some_of(client, b"one\r\n")
        assert trio.current_time() == begun
        assert await all_of(client) == b"3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize("how", ["aclose", "send_eof"])
async def test_a_stream_ends_when_its_client_hangs_up(how: str, autojump_clock: MockClock) -> None:
    async with serving(streaming(never)) as it:
        client = it.listener.connect()
        await client.send_all(GET)
        await some_of(client, b"one")
        await getattr(client, how)()
        await wait_all_tasks_blocked()
        assert it.server.connections == 0
        if how == "send_eof":
            assert (await all_of(client)).endswith(b"0\r\n\r\n")


async def test_a_client_that_talks_during_a_stream_talks_in_vain(autojump_clock: MockClock) -> None:
    async with serving(streaming(never)) as it:
        client = it.listener.connect()
        await client.send_all(GET + GET + b"x" * 100_000)
        await some_of(client, b"one")
        await wait_all_tasks_blocked()
        assert it.server.connections == 1

    assert len(it.seen) == 1


async def test_a_stream_that_fails_is_cut_off_and_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(send: Send) -> None:
        await send(b"one")
        raise ValueError("broken")

    async with serving(streaming(body)) as it:
        answer = await it.answer(GET)

    assert answer.endswith(b"3\r\none\r\n")  # and no end, so the client can tell
    assert len(caplog.records) == 1


async def test_a_stream_whose_client_takes_nothing_is_dropped(autojump_clock: MockClock) -> None:
    async def body(send: Send) -> None:
        while True:
            await send(b"more")

    async with serving(
        streaming(body), Limits(answer_seconds=5), Listener(lockstep_stream_pair)
    ) as it:
        client = it.listener.connect()
        await client.send_all(GET)
        await some_of(client, b"more")
        await trio.sleep(4.9)
        assert it.server.connections == 1
        await trio.sleep(0.2)
        assert it.server.connections == 0


# -- the end ----


async def test_closing_ends_what_waits_and_streams_and_finishes_what_is_answered(
    autojump_clock: MockClock,
) -> None:
    async def slow(request: Request) -> Response:
        if request.parts == ("stream",):
            return Response(body=never)
        await trio.sleep(3)
        return await ok(request)

    async with serving(slow) as it:
        idle, busy, stream = (it.listener.connect() for _ in range(3))
        await busy.send_all(GET)
        await stream.send_all(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        it.server.close()
        assert await all_of(idle) == b""
        assert (await all_of(stream)).endswith(b"3\r\none\r\n0\r\n\r\n")
        assert trio.current_time() == begun
        answer = await all_of(busy)
        assert statuses(answer) == [200]
        assert b"Connection: close" in answer
        assert trio.current_time() == begun + 3


async def test_a_stream_that_can_end_by_itself_is_asked_to(autojump_clock: MockClock) -> None:
    asked = trio.Event()

    async def body(send: Send) -> None:
        await send(b"one")
        await asked.wait()
        await trio.sleep(3)
        await send(b"last")

    async def answer(request: Request) -> Response:
        return Response(body=body, end=asked.set)

    async with serving(answer) as it:
        client = it.listener.connect()
        await client.send_all(GET)
        await some_of(client, b"one")
        it.server.close()
        assert (await all_of(client)).endswith(b"4\r\nlast\r\n0\r\n\r\n")


async def test_a_stream_that_begins_when_it_closes_ends_at_once(autojump_clock: MockClock) -> None:
    async def late(request: Request) -> Response:
        it.server.close()
        return Response(body=never)

    async with serving(late) as it:
        assert statuses(await it.answer(GET)) == [200]


# -- sockets ----


async def test_over_a_unix_socket_the_kernel_says_who_asks(tmp_path: Path) -> None:
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(tmp_path / "socket"))
        sock.listen()
        server = Server(whoever)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [trio.SocketListener(sock)])
            async with await trio.open_unix_socket(tmp_path / "socket") as client:
                await client.send_all(GET)
                await client.send_eof()
                assert (await all_of(client)).endswith(f"uid={os.getuid()}".encode())
            server.close()


async def test_over_tcp_nobody_does() -> None:
    server = Server(whoever)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(server.serve, listeners)
        async with await trio.testing.open_stream_to_socket_listener(listeners[0]) as client:
            await client.send_all(GET)
            await client.send_eof()
            assert (await all_of(client)).endswith(b"uid=None")
        server.close()


async def whoever(request: Request) -> Response:
    return Response(body=f"uid={request.peer_uid}".encode())


def test_without_h11_the_import_names_the_install_line() -> None:
    code = "import sys; sys.modules['h11'] = None; import trioworker.backends.http"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert 'pip install "trioworker[introspection]"' in found.stderr
