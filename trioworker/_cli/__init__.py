"""The command line: `trioworker run`, `check`, `graph` and `demo`.

`_app` knows the commands, `_target` what they work on, `_graph` how a graph is drawn, `_render` how
a running engine is shown. Only `_app` imports cyclopts and only `_render` imports rich, so that
what draws and what finds can be used, and tested, without the extra.
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
