"""A worker that keeps the latest headlines of a feed."""

import trio

from trioworker import Tomb, open_worker


class Headlines:
    """Fetches every so often; `latest` is what came last."""

    def __init__(self, fetch, *, every):
        self._fetch = fetch
        self._every = every
        self._tomb = Tomb()
        self.latest = []

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        with self._tomb:
            self.latest = await self._fetch()
            task_status.started()
            while True:
                await trio.sleep(self._every)
                self.latest = await self._fetch()

    def kill(self, reason=None):
        self._tomb.kill(reason)

    async def wait(self):
        await self._tomb.wait()


pages = iter([["rain"], ["sun", "rain"]])


async def fetch():
    """Stand for an HTTP request: takes a moment, and fails in the end."""
    await trio.sleep(0.1)
    if page := next(pages, None):
        return page
    raise ConnectionError("the feed is gone")


async def main():
    headlines = Headlines(fetch, every=1)
    try:
        async with open_worker(headlines):
            print("at first:", headlines.latest)
            await trio.sleep(1.5)
            print("later:", headlines.latest)
            await trio.sleep_forever()
    except ConnectionError as error:
        print("ended:", error)


if __name__ == "__main__":
    trio.run(main)
