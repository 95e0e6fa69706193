"""A program with introspection, and somebody who asks it: over real sockets."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import h11
import trio

from trioworker import Engine, EngineConfig, Getter, Manifold, self_manifold
from trioworker.workers.agent.introspection import Config, manifold

PATIENCE = 10.0
TOKEN = "a token of sixteen".replace(" ", "-")


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Asker:
    """Asks the program that listens on `path`; or at `port`, if there is one."""

    path: Path
    port: int | None = None

    async def connect(self) -> trio.SocketStream:
        if self.port is not None:
            return await trio.open_tcp_stream("127.0.0.1", self.port)
        return await trio.open_unix_socket(self.path)

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Ask one thing on a connection of its own."""
        with trio.fail_after(PATIENCE):
            async with await self.connect() as stream:
                return await asked(stream, method, target, headers, body)

    async def get(self, target: str, **headers: str) -> Answer:
        return await self.ask("GET", target, headers)

    async def post(self, target: str, **headers: str) -> Answer:
        return await self.ask("POST", target, headers)


async def asked(
    stream: trio.abc.Stream,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """Ask on `stream`, which may go on to be used."""
    client = h11.Connection(h11.CLIENT)
    given = {"host": "localhost", "content-length": str(len(body))} | dict(headers or {})
    request = h11.Request(method=method, target=target, headers=list(given.items()))
    events: list[h11.Event] = [
        request,
        *([h11.Data(data=body)] if body else []),
        h11.EndOfMessage(),
    ]
    await stream.send_all(b"".join(client.send(event) or b"" for event in events))
    head: h11.Response | None = None
    received = bytearray()
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(bytes(await stream.receive_some(65536)))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            received += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            found = {name.decode(): value.decode() for name, value in head.headers}
            return Answer(head.status_code, found, bytes(received))


async def serve(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    """Be ready at once, and run for ever."""
    task_status.started()
    await trio.sleep_forever()


async def hang(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    """Never be ready."""
    await trio.sleep_forever()


def engine_with(
    tmp_path: Path,
    manifolds: Mapping[str, Manifold],
    *,
    config: Config | None = None,
    engine_config: EngineConfig | None = None,
) -> tuple[Engine, Asker]:
    """Return an engine with `manifolds` and an introspection, and somebody who can ask it."""
    path = tmp_path / "private" / "it.sock"
    config = attrs.evolve(config or Config(), socket=path)
    engine = Engine(engine_config or EngineConfig(name="shop"))
    engine.install_all(
        {"engine": self_manifold(engine), "introspection": manifold(config), **manifolds}
    )
    return engine, Asker(path)


@asynccontextmanager
async def running(
    tmp_path: Path,
    manifolds: Mapping[str, Manifold],
    *,
    config: Config | None = None,
    engine_config: EngineConfig | None = None,
) -> AsyncGenerator[tuple[Engine, Asker]]:
    """Run such an engine, and kill it hard in the end."""
    engine, asker = engine_with(tmp_path, manifolds, config=config, engine_config=engine_config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        with trio.fail_after(PATIENCE):
            await engine.wait_state("introspection", "started")
        yield engine, attrs.evolve(asker, port=port_of(engine))
        engine.kill(grace=0)


def port_of(engine: Engine) -> int | None:
    """Return the port on which the introspection of `engine` listens, if it does."""
    worker: Any = engine.report().manifolds["introspection"].worker
    addresses: list[str] = worker["addresses"]
    return int(addresses[1].rpartition(":")[2]) if len(addresses) > 1 else None
