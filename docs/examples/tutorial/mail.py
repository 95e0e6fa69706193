"""A worker that collects the letters of several boxes, and owns what it needs for that."""

import trio

from trioworker import Catacomb, RestartPolicy, Runner, RunnerConfig, open_worker, simple_worker

CONFIG = RunnerConfig(
    is_fatal=lambda error: not isinstance(error, ConnectionError),
    restart=RestartPolicy(error_delay=1, jitter=0),
)


class Collector:
    def __init__(self, boxes):
        self._boxes = boxes
        self._catacomb = Catacomb()

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        async with self._catacomb as catacomb:
            send, letters = trio.open_memory_channel(0)
            catacomb.add(simple_worker(printer, letters))
            runner = Runner(CONFIG)
            await catacomb.start(runner)
            for name, box in self._boxes.items():
                runner.start_worker(name, lambda box=box: simple_worker(box, send))
            task_status.started()
            await catacomb.wait_dying()

    def kill(self, reason=None):
        self._catacomb.kill(reason)

    async def wait(self):
        await self._catacomb.wait()


async def printer(letters):
    for _ in range(3):
        print("letter", await letters.receive())
    raise RuntimeError("out of paper")


async def home(send):
    """Stand for a box with a letter every two seconds."""
    while True:
        await trio.sleep(2)
        await send.send("from home")


work_is_up = iter([False, False, True])


async def work(send):
    """Stand for a box with one letter, which cannot be reached at first."""
    if not next(work_is_up):
        print("work cannot be reached")
        raise ConnectionError("no line")
    await send.send("from work")


async def main():
    try:
        async with open_worker(Collector({"home": home, "work": work})):
            await trio.sleep_forever()
    except RuntimeError as error:
        print("ended:", error)


trio.run(main)
