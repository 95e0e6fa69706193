"""Tests of the worker in `headlines.py`, and of a graph that it is a part of."""

import trio
from headlines import Headlines

from trioworker import Manifold, open_worker
from trioworker.testing import ManifoldHarness, check_alive, check_killed, clean_kill, open_engine


class Feed:
    """Stands for the real feed: answers what the test says."""

    def __init__(self):
        self.page = ["rain"]

    async def fetch(self):
        if self.page is None:
            raise ConnectionError("the feed is gone")
        return self.page


async def test_it_has_headlines_as_soon_as_it_is_started():
    async with open_worker(Headlines(Feed().fetch, every=60)) as headlines:
        assert headlines.latest == ["rain"]


async def test_it_fetches_again_after_a_minute_and_not_before(autojump_clock):
    feed = Feed()
    async with open_worker(Headlines(feed.fetch, every=60)) as headlines:
        feed.page = ["sun"]
        await trio.sleep(59)
        assert headlines.latest == ["rain"]
        await trio.sleep(2)
        assert headlines.latest == ["sun"]


async def test_it_runs_until_it_is_asked_to_stop(nursery):
    headlines = Headlines(Feed().fetch, every=60)
    nursery.start_soon(headlines.run)
    await check_alive(headlines)
    await clean_kill(headlines)


async def test_a_feed_that_is_gone_ends_it(autojump_clock):
    feed = Feed()
    headlines = Headlines(feed.fetch, every=60)
    try:
        async with open_worker(headlines):
            feed.page = None
            await trio.sleep(61)
    except ConnectionError:
        pass
    assert isinstance(await check_killed(headlines), ConnectionError)


async def test_the_engine_starts_it_again_and_who_needs_it_with_it(autojump_clock):
    feed = Feed()
    reader = ManifoldHarness()
    worker = Manifold.from_worker(lambda get: Headlines(feed.fetch, every=60))
    parts = {"headlines": worker, "reader": reader.manifold(inputs=("headlines",))}
    async with open_engine(parts):
        await reader.assert_one_start()
        feed.page = None
        await trio.sleep(61)
        assert not reader.is_running
        feed.page = ["sun"]
        await reader.assert_one_start()
        assert reader.get("headlines", Headlines).latest == ["sun"]
