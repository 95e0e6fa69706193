"""The command line: running, checking and drawing programs, and asking those that run.

`_app` knows the commands, `_graph` how a graph is drawn, `_render` how an engine in this process is
shown. Those for a program in another process are in `_live`: `_client` asks it, `_told` takes the
answers apart, `_paint` prints them. Only `_app` imports cyclopts and only `_render` imports rich,
so that what draws and what asks can be used, and tested, without the extra.
"""

from __future__ import annotations

from typing import final


@final
class MissingExtra(ImportError):
    """Part of the command line is not installed; the message is the line that installs it."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"the trioworker command needs {package}, which is not installed: "
            'pip install "trioworker[cli]"'
        )
