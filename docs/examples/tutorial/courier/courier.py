"""A courier that carries letters from one folder to another."""

from pathlib import Path

import attrs
import trio

from trioworker import Getter, Manifold


@attrs.frozen
class FolderConfig:
    """What can be set for a folder."""

    path: Path


def folder(config: FolderConfig) -> Manifold:
    """Offer a folder, which is made if it is not there."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[trio.Path]) -> None:
        path = trio.Path(config.path)
        await path.mkdir(parents=True, exist_ok=True)
        task_status.started(path)
        await trio.sleep_forever()

    return Manifold(start)


@attrs.frozen
class CourierConfig:
    """What can be set for the courier."""

    takes: float = 1.0


def courier(config: CourierConfig) -> Manifold:
    """Carry what is in the folder `source` to the folder `target`, letter by letter."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        source, target = get("source", trio.Path), get("target", trio.Path)
        task_status.started()
        while not get.is_stopping:
            if letters := sorted(await source.iterdir()):
                print("carries", letters[0].name, flush=True)
                await trio.sleep(config.takes)
                await letters[0].rename(target / letters[0].name)
                print("brought", letters[0].name, flush=True)
            else:
                with trio.move_on_after(0.1):
                    await get.wait_stopping()

    return Manifold(start, inputs=("source", "target"), ask=lambda output: None)
