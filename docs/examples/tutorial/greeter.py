"""A server that greets, the settings and the names that it needs, and a visitor."""

import contextlib
import sqlite3

import trio
from trio.testing import open_stream_to_socket_listener

from trioworker import Bounce, Engine, Manifold, Missing, open_worker

FILE = trio.Path("greeting.txt")


@Manifold.from_start
async def settings(get, *, task_status):
    text = await FILE.read_text()
    task_status.started(text)
    while await FILE.read_text() == text:
        await trio.sleep(1)
    raise Bounce("the file has changed")


@Manifold.from_context
@contextlib.asynccontextmanager
async def names(get):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE names AS SELECT 'Ada' AS name")
    print("names: open")
    try:
        yield connection
    finally:
        connection.close()
        print("names: closed")


@Manifold.from_start(inputs=("settings", "names"))
async def server(get, *, task_status):
    if not (greeting := get("settings", str)):
        raise Missing("there is no greeting")

    async def greet(stream):
        [[name]] = get("names", sqlite3.Connection).execute("SELECT name FROM names")
        await stream.send_all(f"{greeting}, {name}".encode())

    print("server: open")
    try:
        await trio.serve_tcp(greet, 0, host="127.0.0.1", task_status=task_status)
    finally:
        print("server: closed")


@Manifold.from_start(inputs=("server",))
async def visitor(get, *, task_status):
    async with await open_stream_to_socket_listener(get("server", list)[0]) as stream:
        print("visitor:", (await stream.receive_some()).decode())


async def main():
    await FILE.write_text("")
    engine = Engine()
    parts = {"visitor": visitor, "server": server, "names": names, "settings": settings}
    engine.install_all(parts)
    async with open_worker(engine):
        await engine.wait_settled()
        print(engine.explain("visitor"))
        for greeting in ("Hello", "Good evening"):
            await FILE.write_text(greeting)
            await engine.wait_state("visitor", "starting")
            await engine.wait_state("visitor", "done")


trio.run(main)
