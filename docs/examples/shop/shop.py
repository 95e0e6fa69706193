"""The workers of a small shop: a catalogue, and a server that answers from it."""

import attrs
import trio

from trioworker import Getter, Manifold


@attrs.frozen
class Catalogue:
    """What there is, and what it costs."""

    prices: dict[str, int]


@attrs.frozen
class ServerConfig:
    """What can be set in the file."""

    port: int
    token: str
    host: str = "127.0.0.1"


def catalogue() -> Manifold:
    """Offer the catalogue. There is nothing to configure, so there is no parameter."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[Catalogue]) -> None:
        task_status.started(Catalogue({"tea": 3, "cake": 5}))
        await trio.sleep_forever()

    return Manifold(start)


def server(config: ServerConfig) -> Manifold:
    """Answer each line with the price of what it names, after a line with the token."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        prices = get("goods", Catalogue).prices

        async def serve(stream: trio.SocketStream) -> None:
            async with stream:
                words = (await stream.receive_some(1000)).decode().split()
                if words[:1] == [config.token]:
                    await stream.send_all("".join(f"{prices.get(w)}\n" for w in words[1:]).encode())

        await trio.serve_tcp(serve, config.port, host=config.host, task_status=task_status)

    return Manifold(start, inputs=("goods",))
