"""The manifold: what it needs, how it stops. What it does is imported when one is made."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from trioworker import Getter, Manifold, Reporter

from ._config import Config

if TYPE_CHECKING:
    import trio

    from ._server import Introspection

_DEFAULT = Config()


def manifold(config: Config = _DEFAULT) -> Manifold:
    """Return the manifold that answers; its one input is ``engine``.

    Args:
        config: where it listens, and to whom; by default on the socket of `socket_path` alone.

    Raises:
        ImportError: the extra ``introspection`` is not installed.
    """
    from ._server import Introspection, serve  # noqa: PLC0415 - needs the extra

    async def start(get: Getter, *, task_status: trio.TaskStatus[Introspection]) -> None:
        await serve(config, os.environ, get, task_status=task_status)

    return Manifold(
        start,
        inputs=("engine",),
        outputs={Reporter: _itself},
        ask=Introspection.ask,
        grace=math.inf,
    )


def _itself(value: Reporter) -> Reporter:
    return value
