"""The stub of a facade: answers by a script, and a note of each call."""

from typing import Any, Protocol

import pytest
import trio
from trio.testing import MockClock

from trioworker.testing import FakeWatcher, StubFacade, check_alive
from trioworker.workers.coordination.lifeflag import Life, LifeFlag, Lives
from trioworker.workers.coordination.reboot import Action, MachineDown, MachineLock, Reboot, Reboots


class Shop(Protocol):
    def is_open(self, day: str = "today") -> bool: ...
    async def buy(self, what: str, *, count: int = 1) -> int: ...


async def test_answers_come_in_order_and_the_last_is_for_ever() -> None:
    stub = StubFacade(Shop, buy=[1, 2], is_open=[True, False])

    assert [await stub.face.buy("milk") for _ in range(4)] == [1, 2, 2, 2]
    assert [stub.face.is_open() for _ in range(3)] == [True, False, False]


async def test_each_call_is_noted_with_its_arguments() -> None:
    stub = StubFacade(Shop)
    stub.face.is_open("monday")
    await stub.face.buy("milk", count=3)

    assert stub.calls == [("is_open", "monday"), ("buy", "milk", {"count": 3})]
    assert repr(stub) == "<StubFacade of Shop, 2 calls>"


async def test_an_error_is_raised_and_a_method_without_answers_returns_none() -> None:
    error = OSError("closed")
    stub = StubFacade(Shop, buy=[error])
    with pytest.raises(OSError, match="closed") as caught:
        await stub.face.buy("milk")

    assert caught.value is error
    assert stub.face.is_open() is None


async def test_an_async_function_is_awaited_for_the_answer(autojump_clock: MockClock) -> None:
    async def slowly() -> int:
        await trio.sleep(10)
        return 7

    stub = StubFacade(Shop, buy=[slowly, trio.sleep_forever])
    assert await stub.face.buy("milk") == 7
    assert trio.current_time() == 10
    with trio.move_on_after(1000) as scope:
        await stub.face.buy("milk")
    assert scope.cancelled_caught


async def test_an_async_method_is_a_checkpoint() -> None:
    stub = StubFacade(Shop)
    with trio.testing.assert_checkpoints():
        await stub.face.buy("milk")
    with trio.testing.assert_no_checkpoints():
        stub.face.is_open()


def test_answers_that_nobody_would_get_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Shop has no method 'sell' \(it has buy, is_open\)"):
        StubFacade(Shop, sell=[1])
    with pytest.raises(ValueError, match="no answers for 'buy'; leave it out for None"):
        StubFacade(Shop, buy=[])


async def test_it_plays_the_roles_of_workers(tmp_path: Any) -> None:
    lives = StubFacade(Lives, life=[Life.ALIVE], watch_life=[FakeWatcher[None](None)])
    async with trio.open_nursery() as nursery:
        flag = LifeFlag(lives.face, "machine-3", lambda life: life is Life.ALIVE)
        await nursery.start(flag.run)
        await check_alive(flag)
        flag.kill()
    assert lives.calls == [
        ("life", "machine-3"),
        ("watch_life", "machine-3"),
        ("life", "machine-3"),
    ]

    reboots = StubFacade(
        Reboots, reboot_action=[Action.REBOOT], watch_reboot_action=[FakeWatcher[None](None)]
    )
    with pytest.raises(MachineDown):
        await Reboot(reboots.face, "3", MachineLock(tmp_path / "lock")).run()
    assert reboots.calls == [("watch_reboot_action", "3"), ("reboot_action", "3")]
