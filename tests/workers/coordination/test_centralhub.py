"""The hub: topics, queues of their own, and what is dropped is told."""

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, LifetimeError, open_worker
from trioworker.testing import check_alive, clean_kill, open_engine
from trioworker.workers.coordination.centralhub import (
    Config,
    Hub,
    Publisher,
    Subscriber,
    Subscription,
    manifold,
)

from .taking import Taker, calling, nursery_to_leave


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with open_worker(Hub(Config(limit=3))) as hub:
        yield hub


def say(hub: Hub, *numbers: int, topic: str = "news") -> None:
    for number in numbers:
        hub.publish(topic, {"number": number})


async def all_of(messages: Subscription) -> list[tuple[int, int]]:
    """What waits there, each with what was missed before it."""
    found = []
    for _ in range(messages.waiting):
        message = await messages.receive()
        found.append((message.data["number"], message.missed))
    return found


# -- who hears what --------------------------------------------------------------------------------


async def test_who_is_subscribed_hears_in_order_and_who_comes_later_does_not(hub: Hub) -> None:
    with hub.subscribe("news") as early:
        say(hub, 1, 2)
        with hub.subscribe("news") as late:
            say(hub, 3)

            assert await all_of(early) == [(1, 0), (2, 0), (3, 0)]
            assert await all_of(late) == [(3, 0)]


@pytest.mark.parametrize(
    "wanted, heard",
    [
        (("lease.claimed",), [1]),
        (("lease.*",), [1, 2]),
        (("*",), [1, 2, 3]),
        (("*.claimed", "lease.*"), [1, 2]),
        (("lease.expired", "weather"), [2, 3]),
        (("lease?claimed", "lease[.]claimed", "lease", "claimed"), []),
    ],
)
async def test_several_topics_and_patterns_are_one_queue(
    hub: Hub, wanted: tuple[str, ...], heard: list[int]
) -> None:
    with hub.subscribe(*wanted) as messages:
        say(hub, 1, topic="lease.claimed")
        say(hub, 2, topic="lease.expired")
        say(hub, 3, topic="weather")

        assert await all_of(messages) == [(number, 0) for number in heard]


async def test_who_waits_is_woken(hub: Hub, autojump_clock: MockClock) -> None:
    heard: list[int] = []

    async def listen() -> None:
        with hub.subscribe("news") as messages:
            while True:
                heard.append((await messages.receive()).data["number"])

    async with nursery_to_leave() as nursery:
        listening = await calling(nursery, listen)
        for number in (1, 2):
            say(hub, number)
            await wait_all_tasks_blocked()
            assert heard[-1] == number
        assert listening.blocks()


async def test_after_the_block_nothing_is_heard(hub: Hub) -> None:
    with hub.subscribe("news") as messages:
        pass
    say(hub, 1)

    assert hub.report().subscribers == ()
    with pytest.raises(LifetimeError, match="used inside its block"):
        await messages.receive()


async def test_a_subscription_begins_when_it_is_entered_and_once_at_a_time(hub: Hub) -> None:
    messages = hub.subscribe("news")
    say(hub, 1)
    with messages:
        assert await all_of(messages) == []
        with pytest.raises(LifetimeError, match="a second time"), messages:
            pass


async def test_one_that_leaves_while_others_hear_disturbs_nobody(hub: Hub) -> None:
    with hub.subscribe("news") as staying:
        with hub.subscribe("news") as leaving:
            say(hub, 1)
            await leaving.receive()
        say(hub, 2)

        assert await all_of(staying) == [(1, 0), (2, 0)]


async def test_giving_up_a_wait_loses_nothing(hub: Hub, autojump_clock: MockClock) -> None:
    with hub.subscribe("news") as messages:
        with trio.move_on_after(1):
            await messages.receive()
        say(hub, 1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await messages.receive()
        assert scope.cancelled_caught

        assert await all_of(messages) == [(1, 0)]


# -- what is dropped -------------------------------------------------------------------------------


async def test_when_a_queue_is_full_the_oldest_goes_and_it_is_told(hub: Hub) -> None:
    with hub.subscribe("news") as slow, hub.subscribe("news") as fast:
        for number in range(1, 6):
            say(hub, number)
            assert (await fast.receive()).missed == 0
        assert [(each.waiting, each.missed) for each in hub.report().subscribers] == [
            (3, 2),
            (0, 0),
        ]

        assert await all_of(slow) == [(3, 2), (4, 0), (5, 0)]
        say(hub, 6, 7, 8, 9)
        assert await all_of(slow) == [(7, 1), (8, 0), (9, 0)]
        assert hub.report().subscribers[0].missed == 3


async def test_publishing_never_waits_for_who_does_not_read(hub: Hub) -> None:
    """In the original a queue has no limit."""
    with hub.subscribe("news"):
        say(hub, *range(10_000))

        [report] = hub.report().subscribers
        assert report == (("news",), 3, 9_997)
        assert hub.report().published == 10_000


# -- handled ---------------------------------------------------------------------------------------


async def test_a_message_is_handled_when_all_have_asked_for_the_next(hub: Hub) -> None:
    with hub.subscribe("news") as one, hub.subscribe("news") as other:
        delivery = hub.publish("news", {"number": 1})
        assert repr(delivery) == "<Delivery, 2 to go>"
        async with nursery_to_leave() as nursery:
            wait = await calling(nursery, delivery.wait)
            for messages in (one, other):
                await messages.receive()
                await wait_all_tasks_blocked()
                assert wait.blocks()
                assert not delivery.is_done
                await calling(nursery, messages.receive)

            assert not wait.blocks()
            assert wait.error is None
            assert repr(delivery) == "<Delivery, done>"


@pytest.mark.parametrize("how", ["dropped", "taken and left", "left"])
async def test_what_is_dropped_and_what_is_left_behind_is_handled(hub: Hub, how: str) -> None:
    with hub.subscribe("news") as messages:
        delivery = hub.publish("news", {"number": 1})
        if how == "dropped":
            say(hub, 2, 3, 4)
        elif how == "taken and left":
            await messages.receive()
        assert delivery.is_done is (how == "dropped")

    assert delivery.is_done
    with trio.fail_after(5):
        await delivery.wait()


async def test_what_nobody_hears_is_handled(hub: Hub) -> None:
    delivery = hub.publish("news", {})

    assert delivery.is_done
    await delivery.wait()


# -- messages --------------------------------------------------------------------------------------


async def test_a_message_is_a_copy_that_nobody_changes(hub: Hub) -> None:
    data: dict[str, Any] = {"number": 1}
    with hub.subscribe("news") as messages:
        hub.publish("news", data)
        data["number"] = 2
        message = await messages.receive()

        assert tuple(message) == ("news", {"number": 1}, 0)
        with pytest.raises(TypeError, match="does not support item assignment"):
            message.data["number"] = 3  # type: ignore[index]  # which is the point


async def test_an_origin_is_added_unless_the_message_has_one() -> None:
    async with open_worker(Hub(Config(origin="machine-0"))) as hub:
        with hub.subscribe("news") as messages:
            hub.publish("news", {})
            hub.publish("news", {"origin": "machine-3"})

            assert (await messages.receive()).data == {"origin": "machine-0"}
            assert (await messages.receive()).data == {"origin": "machine-3"}


@pytest.mark.parametrize("data", [{1: "one"}, "text", None, [("a", 1)]])
async def test_what_json_could_not_carry_is_refused(hub: Hub, data: Any) -> None:
    with pytest.raises(TypeError, match="must be a mapping with strings for keys"):
        hub.publish("news", data)

    assert hub.report().published == 0


async def test_names_are_wanted(hub: Hub) -> None:
    for topic in ("", "news.*"):
        with pytest.raises(ValueError, match="topic must be the name of one"):
            hub.publish(topic, {})
    for topics in ((), ("",), ("news", "")):
        with pytest.raises(ValueError, match="at least one"):
            hub.subscribe(*topics)


# -- the worker ------------------------------------------------------------------------------------


async def test_it_ends_cleanly_and_refuses_from_then_on(hub: Hub) -> None:
    await check_alive(hub)
    with hub.subscribe("news") as messages:
        say(hub, 1)
        await clean_kill(hub)
        with pytest.raises(Dying, match='"hub" is dead'):
            await messages.receive()
    with pytest.raises(Dying, match='"hub" is dead'):
        hub.publish("news", {})
    with pytest.raises(Dying, match='"hub" is dead'), hub.subscribe("news"):
        pass


async def test_it_tells_how_it_stands(hub: Hub) -> None:
    with hub.subscribe("a", "b*") as messages:
        assert hub.report() == (hub.report().tomb, 0, ((("a", "b*"), 0, 0),))
        assert repr(hub) == "<Hub 'hub' alive, 1 subscribed>"
        assert repr(messages) == "<Subscription to a, b*, 0 waiting>"


async def test_each_face_has_nothing_but_its_own_methods(autojump_clock: MockClock) -> None:
    taker, curious = Taker("hub", Publisher, Subscriber), Taker("hub", Hub)
    parts = {"hub": manifold(), "taker": taker.manifold(), "curious": curious.manifold()}
    async with open_engine(parts, settle_within=None) as engine:
        await engine.wait_state("curious", "delayed")
        assert "it offers: Publisher, Subscriber" in str(engine.explain("curious"))
        for face, method in ((Publisher, "publish"), (Subscriber, "subscribe")):
            assert [name for name in dir(taker[face]) if not name.startswith("_")] == [method]


def test_the_config_checks_itself_and_is_frozen() -> None:
    assert Config() == Config(limit=100, origin="")
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        Config(limit=0)
    with pytest.raises(TypeError, match="limit must be a number of messages, not"):
        Config(limit=1.5)  # type: ignore[arg-type]  # which is the point
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config().limit = 2  # type: ignore[misc]  # likewise
