"""What does it cost to restart the root of a star, and with it all that depend on it?

From asking for it to all being up again.
"""

from __future__ import annotations

import trio

from trioworker import Engine, Getter, Manifold

from ._method import NO_DELAYS, Bar, Countdown, Question, Stopwatch, in_trio


class Worker:
    """What the floor keeps of one worker."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.started = trio.Event()
        self.done = trio.Event()


async def floor(n: int) -> dict[str, float]:
    """Cancel the root, wait for its end, cancel all dependents, wait for each; start all again."""

    async def live(worker: Worker, root: Worker) -> None:
        try:
            with worker.scope:
                if worker is not root:
                    await root.started.wait()
                worker.started.set()
                up.down()
                await trio.sleep_forever()
        finally:
            worker.done.set()

    def start(nursery: trio.Nursery) -> list[Worker]:
        workers = [Worker() for _ in range(n)]
        for worker in workers:
            nursery.start_soon(live, worker, workers[0])
        return workers

    up = Countdown(n)
    async with trio.open_nursery() as nursery:
        root, *dependents = start(nursery)
        await up.wait()
        up = Countdown(n)
        watch = Stopwatch(n)
        root.scope.cancel()
        await root.done.wait()
        for worker in dependents:
            worker.scope.cancel()
        for worker in dependents:
            if not worker.done.is_set():  # waiting for one that is set costs a checkpoint
                await worker.done.wait()
        start(nursery)
        await up.wait()
        cost = watch.read()
        nursery.cancel_scope.cancel()
    return {"star": cost}


async def ours(n: int) -> dict[str, float]:
    """Restart the root."""

    async def worker(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - what a start function gets
        task_status.started()
        up.down()
        await trio.sleep_forever()

    up = Countdown(n)
    engine = Engine(NO_DELAYS)
    engine.install_all(
        {str(i): Manifold(worker, inputs=("0",) if i else ()) for i in range(n)},
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await up.wait()
        up = Countdown(n)
        watch = Stopwatch(n)
        engine.restart("0")
        await up.wait()
        cost = watch.read()
        engine.kill()
    return {"star": cost}


QUESTIONS = [
    Question(
        name="bounce",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(100, 1000, 5000),
        bars={"star": Bar(limit=1.6)},
    )
]
