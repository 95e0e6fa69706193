"""The program that the browser looks at.

What it is made of is told by its environment, and what is to happen by files.
"""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import attrs
import trio

from trioworker import (
    Engine,
    EngineConfig,
    Getter,
    Installer,
    Manifold,
    RestartPolicy,
    Uninstall,
    self_manifold,
)
from trioworker.workers.agent import introspection


class OutOfPaper(Exception):
    """What goes wrong where something has to."""


@attrs.frozen
class Worker:
    """What a manifold hands out."""

    says: dict[str, Any]

    def report(self) -> dict[str, Any]:
        """Return what it was told to say."""
        return self.says


def engine() -> Engine:
    """Return the engine that the environment describes."""
    told = json.loads(os.environ["SHOP"])
    policy = RestartPolicy(error_delay=0.2, max_delay=told.get("max_delay", 0.4))
    made = Engine(EngineConfig(name="shop", restart=policy))
    listen = introspection.Config(
        socket=Path(told["socket"]),
        port=told["port"],
        token=told["token"],
        actions_over_tcp=True,
    )
    manifolds = {
        name: manifold(Path(told["directory"]), **one) for name, one in told["manifolds"].items()
    }
    made.install_all(
        {
            "engine": self_manifold(made),
            **manifolds,
            "introspection": introspection.manifold(listen),
        }
    )
    return made


def manifold(
    directory: Path,
    *,
    error: str = "",
    hangs: bool = False,
    rests: bool = False,
    says: dict[str, Any] | None = None,
    inputs: Collection[str] = (),
    live: Collection[str] = (),
) -> Manifold:
    """Return one that works until a file holds the message of the error to fail with.

    It can also be told to uninstall itself, and to install another before.

    Args:
        directory: where to look for such a file.
        error: fail with this message at each start.
        hangs: never get ready.
        rests: look for no such file: hundreds that do are work.
        says: what its report is.
        inputs: what it needs.
        live: what it looks at.
    """

    async def start(get: Getter, *, task_status: trio.TaskStatus[Worker]) -> None:
        crash = directory / trio.lowlevel.current_task().name.encode().hex()
        if error:
            raise OutOfPaper(error)
        if hangs:
            await trio.sleep_forever()
        task_status.started(Worker(says or {}))
        if rests:
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever, name="accept")
            while not crash.exists():  # noqa: ASYNC110 - it comes from another process
                await trio.sleep(0.02)
            message = crash.read_text(encoding="utf-8")
            crash.unlink()
            if message == "become another":
                installer = get("engine", Installer)
                installer.install("another", manifold(directory, inputs=["clock"]))
                raise Uninstall
            raise OutOfPaper(message)

    return Manifold(start, inputs=tuple(inputs), live=tuple(live), start_timeout=None)
