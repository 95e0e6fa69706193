"""A worker that makes thumbnails, and finishes what it can when it is asked to stop."""

import math

import trio

from trioworker import Dying, Tomb, open_worker


class Thumbnails:
    """Makes one thumbnail after the other, a second each."""

    def __init__(self):
        self.tomb = Tomb(grace=2)
        self._add, self._queue = trio.open_memory_channel(math.inf)

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        with self.tomb:
            task_status.started()
            async for made in self._queue:  # to its end
                await trio.sleep(1)
                made.set()

    def kill(self, reason=None):
        self.tomb.kill(reason)
        self._add.close()  # nothing more can come

    async def wait(self):
        await self.tomb.wait()

    async def make(self):
        """Return when the thumbnail is made."""
        with self.tomb.while_alive():
            made = trio.Event()
            self._add.send_nowait(made)
            await made.wait()


async def client(thumbnails, name, say):
    try:
        await thumbnails.make()
        say(f"{name} is made")
    except Dying:
        say(f"{name} gets Dying")


async def main():
    began = trio.current_time()

    def say(text):
        print(f"{trio.current_time() - began:.1f} s: {text}")

    async with trio.open_nursery() as clients, open_worker(Thumbnails()) as thumbnails:
        for name in ("cat", "dog", "cow"):
            clients.start_soon(client, thumbnails, name, say)
            await trio.sleep(0.1)
        say(f"the worker is {thumbnails.tomb.state}")
        thumbnails.kill()
        say(f"asked to stop, it is {thumbnails.tomb.state}")
        await client(thumbnails, "hen", say)
        await thumbnails.wait()
        say(f"it is {thumbnails.tomb.state}")


trio.run(main)
