"""The commands. Each says what it does in its docstring, which is what ``--help`` prints.

Those that ask a running program are in `_live`, with their exit statuses. The others': 0 after a
clean end, 1 after an error of the program that was run, 2 when there is nothing to run (a bad
command line, a file with problems), 130 and 143 after a hard stop.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import trioworker

from . import MissingExtra, _demo

try:
    from cyclopts import App, CycloptsError, Parameter
except ModuleNotFoundError as exc:
    raise MissingExtra("cyclopts") from exc

from . import _live

if TYPE_CHECKING:
    from trioworker.agent import AgentFileError, Program

app = App(
    name="trioworker",
    help="Run programs made of workers that depend on each other.",
    version=trioworker.__version__,
    help_format="plaintext",
    help_formatter="plain",
    suppress_keyboard_interrupt=False,  # main() makes a status of it
)

USAGE_ERROR = 2
INTERRUPTED = 130

Target = Annotated[str, Parameter(name="TARGET")]
Debug = Annotated[bool, Parameter(negative=())]


@app.command(help_epilogue="Example:\n  trioworker run agent.toml")
def run(
    target: Target,
    /,
    *,
    log: Literal["console", "json"] = "console",
    level: Literal["debug", "info", "warning", "error"] = "info",
    watchdog: float | None = None,
    debug: Debug = False,
) -> int:
    """Run a program until SIGINT or SIGTERM; the second is hard.

    Args:
        target: an agent file, or module:attribute.
        log: the style of the log.
        level: the lowest level that is logged.
        watchdog: log what blocks the event loop for longer than this many seconds.
        debug: show tracebacks.
    """
    if watchdog is not None and not watchdog > 0:
        print(f"--watchdog must be more than 0 seconds, not {watchdog:g}", file=sys.stderr)
        return USAGE_ERROR
    program = _open(target, debug=debug)
    if program is None:
        return USAGE_ERROR
    import trio

    from trioworker.agent import configure_logging, run_engine

    from ._render import ReportTable

    configure_logging(log, level=level.upper(), mask=program.mask)

    async def shown() -> int:
        async with ReportTable(program.engine, mask=program.mask):
            return await run_engine(program.engine, mask=program.mask, watchdog=watchdog)

    try:
        return trio.run(shown)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as exc:  # noqa: BLE001 - what the program ended with: told, then exit 1
        _tell_failure(program, exc, debug=debug)
        return 1


@app.command(help_epilogue="Example:\n  trioworker check agent.toml")
def check(target: Target, /, *, debug: Debug = False) -> int:
    """Say all that is wrong with an agent file; start nothing.

    It imports what the file uses and calls its factories.
    So check only what you would run.

    Args:
        target: an agent file, or module:attribute.
        debug: show tracebacks.
    """
    program = _open(target, debug=debug)
    if program is None:
        return USAGE_ERROR
    are = "manifold is" if program.count == 1 else "manifolds are"
    print(f"{target}: {program.count} {are} fine")
    return 0


@app.command(help_epilogue="Example:\n  trioworker graph agent.toml --format svg > agent.svg")
def graph(
    target: Target,
    /,
    *,
    format: Literal["text", "dot", "mermaid", "svg"] = "text",  # noqa: A002 - the option's name
    debug: Debug = False,
) -> int:
    """Draw who needs whom: required, optional and live inputs.

    Args:
        target: an agent file, or module:attribute.
        format: of the drawing.
        debug: show tracebacks.
    """
    program = _open(target, debug=debug)
    if program is None:
        return USAGE_ERROR
    from . import _graph

    drawn = _graph.FORMATS[format](_graph.graph_of(program.engine.report(), program.mask))
    print(drawn)
    return 0


@app.command(help_epilogue="Example:\n  trioworker schema agent.toml > agent.schema.json")
def schema(file: Annotated[Path | None, Parameter(name="FILE")] = None, /) -> int:
    """Print the JSON Schema of agent files, for an editor.

    With a file, it also knows the configs of what that uses; it imports that.

    Args:
        file: an agent file, finished or not.
    """
    import json

    from trioworker.agent import file_schema

    if file is not None and not file.is_file():
        print(f"{file}: there is no such file", file=sys.stderr)
        return USAGE_ERROR
    print(json.dumps(file_schema(file), indent=2, allow_nan=False))
    return 0


@app.command(help_epilogue="Example:\n  trioworker trace -o trace.json")
def trace(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    json: Annotated[bool, Parameter(negative=())] = False,
    socket: Path | None = None,
) -> int:
    """Write what a program has started and stopped, for a trace viewer.

    Args:
        output: the file.
        json: print the name of the file as JSON.
        socket: where the program listens, if not the only one of yours.
    """
    return _live.trace(output, json=json, socket=socket)


_LIVE: dict[Callable[..., int], str] = {
    _live.status: "status --watch",
    _live.explain: "explain ingest",
    _live.events: "events --follow",
    _live.restart: "restart ingest",
    _live.hold: "hold ingest",
    _live.release: "release ingest",
    _live.stacks: "stacks ingest",
    _live.wait: "wait --for ready --timeout 10",
}
for _command, _arguments in _LIVE.items():
    app.command(
        _command,
        default_parameter=Parameter(negative=()),
        help_epilogue=f"Example:\n  trioworker {_arguments}",
    )
app.command(_demo.demo, help_epilogue="Example:\n  trioworker demo --seed 7 --dir demo-data")


def _open(target: str, *, debug: bool) -> Program | None:
    """Return the program, or ``None`` after telling why there is none."""
    from trioworker.agent import AgentFileError, open_program

    try:
        return open_program(target)
    except AgentFileError as exc:
        _tell_problems(exc, debug=debug)
        return None


def _tell_problems(error: AgentFileError, *, debug: bool) -> None:
    print(error, file=sys.stderr)
    for problem in error.problems if debug else ():
        if problem.cause is not None:
            told = "".join(traceback.format_exception(problem.cause))
            print(f"\n{problem.path}:\n{error.mask(told)}", file=sys.stderr)


def _tell_failure(program: Program, error: BaseException, *, debug: bool) -> None:
    from ._render import shown

    told = "; ".join(map(_told, _leaves(error)))
    notes: Any = getattr(error, "__notes__", ())
    lines = [f"trioworker: {program.engine.name} failed: {told}", *map("  {}".format, notes)]
    print("\n".join(shown(program.mask(line)) for line in lines), file=sys.stderr)
    if debug:
        print(program.mask("".join(traceback.format_exception(error))), file=sys.stderr)


def _told(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - foreign code, and telling of an error must not fail
        text = "<its message cannot be shown>"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding does not have is no reason to fail.
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        status = app(
            sys.argv[1:] if arguments is None else arguments,
            exit_on_error=False,
            result_action="return_value",
        )
        flush: Callable[[], None] | None = getattr(sys.stdout, "flush", None)
        if flush is not None:  # there may be no standard output, as after `>&-`
            flush()
    except CycloptsError:
        return USAGE_ERROR  # it was printed
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain when it flushes at the end.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0
