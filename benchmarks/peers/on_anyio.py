"""AnyIO's task groups, on Trio."""

from __future__ import annotations

import anyio

from ._trio import Kit, trials

DISTRIBUTION = "anyio"
FLOORS = None
TRIALS = trials(
    Kit(open_group=anyio.create_task_group, scope=anyio.CancelScope, event=anyio.Event),
    "anyio, trio",
)
