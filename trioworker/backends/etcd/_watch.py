"""A watch: what happens to keys, as etcd tells it, on a connection of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, final

from ._connection import until
from ._errors import REFUSALS, Compacted, EtcdRefused, EtcdUnavailable, Failed
from ._wire import Event, event_of, parsed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ._connection import Connection


@final
class Watch:
    """What happens to keys, as etcd tells it; made by `Client.watch`.

    Iterate over it: each time it gives the events of one or more revisions, all of each. It ends
    only by an error: `Compacted`; `EtcdUnavailable` if the connection is lost or the member has no
    leader any more. Watch again then, from the revision after the last one you have seen.
    """

    def __init__(self, connection: Connection) -> None:
        self.revision: int = 0
        """The store's, when the watch began."""
        self._url = connection.endpoint.url
        self._connection = connection
        self._rest = b""

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self

    async def __anext__(self) -> list[Event]:
        while True:
            try:
                told = await self._next()
            except Failed as failed:
                raise EtcdUnavailable(f"etcd at {self._url}, watching: {failed}") from None
            if events := told.get("events"):
                return [event_of(event) for event in events]

    async def wait_created(self) -> None:
        """Wait for the first answer; `Client.watch` calls it."""
        told = await self._next()
        self.revision = int(told.get("header", {}).get("revision", 0))

    async def aclose(self) -> None:
        """Stop watching; `Client.watch` calls it."""
        await self._connection.aclose()

    async def _next(self) -> dict[str, Any]:
        with until(math.inf, was_sent=True):
            while b"\n" not in self._rest:
                data = await self._connection.receive()
                if not data:
                    raise Failed("it has ended", was_sent=True)
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        told: dict[str, Any] = parsed(self._url, line, self._connection.status)["result"]
        if told.get("canceled"):
            if "compact_revision" in told:
                raise Compacted(self._url, int(told["compact_revision"]))
            reason = str(told.get("cancel_reason", "the watch was cancelled"))
            for name, code in REFUSALS.items():  # a watch tells its error only as text
                if name in reason:
                    raise EtcdRefused(self._url, code, reason.partition(" desc = ")[2])
            raise Failed(reason, was_sent=True)
        return told
