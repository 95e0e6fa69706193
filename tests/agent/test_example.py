"""The example of the documentation is fine, and works."""

import sys
from pathlib import Path

import pytest
import trio

from trioworker import Engine
from trioworker.agent import load

SHOP = Path(__file__).parents[2] / "docs" / "examples" / "shop" / "agent.toml"


@pytest.mark.skipif(not SHOP.exists(), reason="the documentation is not here")
async def test_the_shop_of_the_documentation_sells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    [probe] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = probe.socket.getsockname()[1]
    await probe.aclose()
    agent = load(SHOP, environ={"SHOP_PORT": str(port), "SHOP_TOKEN": "sesame"})
    engine = agent.engine()
    with trio.fail_after(10):
        await sell(engine, port)
    del sys.modules["shop"]


async def sell(engine: Engine, port: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_state("web", "started")
        async with await trio.open_tcp_stream("127.0.0.1", port) as client:
            await client.send_all(b"sesame tea cake")
            assert b"".join([part async for part in client]) == b"3\n5\n"
        engine.kill()
