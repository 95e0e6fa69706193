"""Workers for the tests to own: each does one thing, some of them rudely."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from trioworker._catacomb import Catacomb
from trioworker._tomb import Tomb

Status = trio.TaskStatus[Any]
Body = Callable[[Status], Awaitable[object]]


async def forever(status: Status) -> None:
    status.started()
    await trio.sleep_forever()


class Lives:
    """One life: `body` inside a tomb. Counts how often it was run and asked."""

    def __init__(self, body: Body = forever, *, grace: float = 0.0, name: str = "lives") -> None:
        self.name = name
        self.tomb = Tomb(grace=grace, name=name)
        self.runs = 0
        self.kills = 0
        self._body = body

    async def run(self, *, task_status: Status = trio.TASK_STATUS_IGNORED) -> None:
        self.runs += 1
        with self.tomb:
            await self._body(task_status)

    def kill(self, reason: BaseException | None = None) -> None:
        self.kills += 1
        self.tomb.kill(reason)

    async def wait(self) -> None:
        await self.tomb.wait()


class Owns:
    """A life that owns others: `body` gets the catacomb."""

    def __init__(
        self,
        body: Callable[[Catacomb], Awaitable[object]] | None = None,
        *,
        grace: float = 0.0,
        name: str = "owns",
    ) -> None:
        self.name = name
        self.catacomb = Catacomb(grace=grace, name=name)
        self._body = body

    async def run(self, *, task_status: Status = trio.TASK_STATUS_IGNORED) -> None:
        async with self.catacomb:
            task_status.started()
            if self._body is None:
                await self.catacomb.wait_dying()
            else:
                await self._body(self.catacomb)

    def kill(self, reason: BaseException | None = None) -> None:
        self.catacomb.kill(reason)

    async def wait(self) -> None:
        await self.catacomb.wait()


class Deaf:
    """Breaks its contract: forgets every kill(), and ends only by cancellation."""

    def __init__(self) -> None:
        self.runs = 0
        self.ended = False

    async def run(self, *, task_status: Status = trio.TASK_STATUS_IGNORED) -> None:
        self.runs += 1
        try:
            await trio.sleep_forever()
        finally:
            self.ended = True

    def kill(self, reason: BaseException | None = None) -> None:
        pass

    async def wait(self) -> None:
        await trio.sleep_forever()


class Unkillable(Lives):
    """Breaks its contract: its kill() raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(name="unkillable")
        self._error = error

    def kill(self, reason: BaseException | None = None) -> None:
        raise self._error


class Unhashable(Lives):
    """Equal to everything, and no member of any set."""

    __hash__ = None  # type: ignore[assignment]  # the point

    def __eq__(self, other: object) -> bool:
        return True


class Nameless(Lives):
    """Breaks its contract: cannot even say what it is called."""

    def __getattribute__(self, attribute: str) -> Any:
        if attribute == "name":
            raise ValueError(attribute)
        return super().__getattribute__(attribute)


def started_with(value: object) -> Body:
    async def body(status: Status) -> None:
        status.started(value)
        await trio.sleep_forever()

    return body


def failing(error: BaseException) -> Body:
    """Fail at once, before started()."""

    async def body(status: Status) -> None:
        raise error

    return body


def failing_after(error: BaseException, event: trio.Event) -> Body:
    """Be usable, and fail when the event is set."""

    async def body(status: Status) -> None:
        status.started()
        await event.wait()
        raise error

    return body


def failing_when_stopped(error: BaseException) -> Body:
    """Be usable, and fail while being cancelled."""

    async def body(status: Status) -> None:
        status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise error

    return body


def stopping_slowly(seconds: float) -> Body:
    """Be usable, and take that long to clean up, whatever is cancelled."""

    async def body(status: Status) -> None:
        status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)

    return body


async def ending(status: Status) -> None:
    """End cleanly at once, without ever calling started()."""
