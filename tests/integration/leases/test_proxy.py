"""The proxy breaks what it is told to, and nothing else."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from .proxy import Link, serve


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


def one(link: Link) -> Callable[[bytes], Link]:
    return lambda _: link


@asynccontextmanager
async def echoing() -> AsyncGenerator[tuple[Link, tuple[str, int]]]:
    link = Link()
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, [listener])
        yield link, await nursery.start(serve, listener.socket.getsockname(), one(link))
        nursery.cancel_scope.cancel()


async def said(stream: trio.SocketStream, text: bytes) -> bytes:
    await stream.send_all(text)
    return await stream.receive_some()


async def test_everything_passes_through_a_whole_link() -> None:
    async with echoing() as (_, address), await trio.open_tcp_stream(*address) as stream:
        assert await said(stream, b"one") == b"one"
        assert await said(stream, b"two") == b"two"


async def test_a_cut_link_closes_what_is_open_and_what_comes_until_it_is_mended() -> None:
    async with echoing() as (link, address):
        async with await trio.open_tcp_stream(*address) as stream:
            assert await said(stream, b"one") == b"one"
            link.cut()
            assert await closed(stream)
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"two")
            assert await closed(stream)
        link.mend()
        async with await trio.open_tcp_stream(*address) as stream:
            assert await said(stream, b"three") == b"three"


async def closed(stream: trio.SocketStream) -> bool:
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True


@pytest.mark.parametrize("way", ["to", "from"])
async def test_through_a_halved_link_nothing_comes_until_it_is_mended(way: str) -> None:
    async with echoing() as (link, address), await trio.open_tcp_stream(*address) as stream:
        assert await said(stream, b"one") == b"one"
        link.halve("to" if way == "to" else "from")
        await stream.send_all(b"two")
        with trio.move_on_after(0.1) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught
        link.mend()
        assert await stream.receive_some() == b"two"


async def test_through_a_slow_link_everything_comes_later() -> None:
    async with echoing() as (link, address), await trio.open_tcp_stream(*address) as stream:
        link.delay(0.1)
        began = trio.current_time()
        assert await said(stream, b"one") == b"one"
        assert trio.current_time() - began > 0.19


async def test_a_server_that_is_not_there_looks_so_through_the_proxy() -> None:
    link = Link()
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nobody = listener.socket.getsockname()[:2]
        await listener.aclose()
        address = await nursery.start(serve, nobody, one(link))
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"one")
            assert await closed(stream)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
