"""A report that is to be sent by one machine at a time."""

import trio

from trioworker import Getter, Manifold, Missing
from trioworker.patterns import Flag
from trioworker.workers.coordination.singular import Term


def reporter() -> Manifold:
    """Send reports while it is ours to do."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        if not get("responsible", Flag).check():
            raise Missing("another machine sends the reports")
        token = get("responsible", Term).token
        task_status.started()
        while True:
            print(f"sends a report under token {token}", flush=True)
            await trio.sleep(1)

    return Manifold(start, inputs=("responsible",))
