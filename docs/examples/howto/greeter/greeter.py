"""A program to deploy: it greets who connects."""

import attrs
import trio

from trioworker import Manifold


@attrs.frozen
class Config:
    """What can be set in the agent file."""

    host: str
    port: int


def server(config: Config) -> Manifold:
    async def greet(stream):
        async with stream:
            await stream.send_all(b"hello\n")

    @Manifold.from_start
    async def start(get, *, task_status):
        await trio.serve_tcp(greet, config.port, host=config.host, task_status=task_status)

    return start
