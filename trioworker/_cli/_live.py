"""The commands that ask and steer a running program, over its socket (`_client`).

What they print came from somebody else's program: each text goes through `shown`, and JSON is
printed as ASCII, so nothing in it can move the cursor.

Exit statuses: 0 yes, or done; 1 the answer is no: not ready; 2 nothing of that name, or several
programs to choose from; 3 nobody listens; 4 no usable answer: refused, garbled, or too late.
"""

from __future__ import annotations

import functools
import json as _json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, ParamSpec

from . import _paint, _told
from ._client import UNKNOWN, Client, ClientError, NoAnswer, NobodyListens, find_socket
from ._render import shown
from ._told import told

NO = 1
PERIOD = 0.5
"""Seconds between two looks at a program that is watched."""
PAUSE = 0.1
"""Seconds between two looks at one that is waited for."""
ANSWER = 5.0
"""Seconds in which one that is waited for has to answer, lest it is asked again."""
LEAST = 1.0
"""Seconds that it is given for that also at the end of the time."""

P = ParamSpec("P")


def _telling(command: Callable[P, int]) -> Callable[P, int]:
    """Return `command` with its errors told on standard error, and made into an exit status."""

    @functools.wraps(command)
    def telling(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except ClientError as exc:
            return _complain(str(exc), exc.status)

    return telling


@_telling
def status(*, watch: bool = False, json: bool = False, socket: Path | None = None) -> int:
    """Show how a running program stands.

    Exits with 1 unless all that it wants is started: every manifold
    that is not held, done or uninstalled.

    Args:
        watch: go on showing it, until interrupted.
        json: print the report as JSON; with --watch one in each line.
        socket: where the program listens, if not the only one of yours.
    """
    client = Client(find_socket(socket))
    if watch:
        return _watch(client, json=json)
    report, ready = _asked(client)
    picture = told(_told.picture, report, ready)
    if json:
        _print_json({**report, **ready})
    else:
        _paint.print_picture(_paint.console(), picture)
    return 0 if picture.ready else NO


@_telling
def explain(name: str, /, *, json: bool = False, socket: Path | None = None) -> int:
    """Say why a manifold is in its state, down to the cause.

    Args:
        name: of the manifold.
        json: print it as JSON.
        socket: where the program listens, if not the only one of yours.
    """
    answer = Client(find_socket(socket)).get("explain", name)
    why = told(_told.why, answer)
    if json:
        return _print_json(answer)
    _paint.print_why(_paint.console(), why)
    return 0


@_telling
def events(*, follow: bool = False, json: bool = False, socket: Path | None = None) -> int:
    """Show how the latest runs of each manifold ended, oldest first.

    Args:
        follow: show each transition from now on instead, until the program stops answering.
        json: print each as JSON, in a line.
        socket: where the program listens, if not the only one of yours.
    """
    client = Client(find_socket(socket))
    if follow:
        return _follow(client, json=json)
    ends = told(_told.ends, client.get("report"))
    if not json:
        _paint.print_ends(_paint.console(), ends)
        return 0
    for end in ends:
        _print_line(end._asdict())
    return 0


@_telling
def restart(name: str, /, *, json: bool = False, socket: Path | None = None) -> int:
    """Stop a manifold, dependents first, and start it again.

    It is asked for, not waited for.

    Args:
        name: of the manifold.
        json: print what was asked for as JSON.
        socket: where the program listens, if not the only one of yours.
    """
    return _act("restart", name, json=json, socket=socket)


@_telling
def hold(name: str, /, *, json: bool = False, socket: Path | None = None) -> int:
    """Stop a manifold, dependents first, and keep it stopped.

    It is asked for, not waited for.

    Args:
        name: of the manifold.
        json: print what was asked for as JSON.
        socket: where the program listens, if not the only one of yours.
    """
    return _act("hold", name, json=json, socket=socket)


@_telling
def release(name: str, /, *, json: bool = False, socket: Path | None = None) -> int:
    """Let a manifold that is held run again.

    Args:
        name: of the manifold.
        json: print what was asked for as JSON.
        socket: where the program listens, if not the only one of yours.
    """
    return _act("release", name, json=json, socket=socket)


@_telling
def stacks(name: str | None = None, /, *, json: bool = False, socket: Path | None = None) -> int:
    """Show where the tasks of a manifold stand, or those of all.

    Args:
        name: of the manifold.
        json: print them as JSON.
        socket: where the program listens, if not the only one of yours.
    """
    client = Client(find_socket(socket))
    answer = client.get("stacks") if name is None else {name: client.get("stacks", name)}
    found = told(_stacks, answer)
    if json:
        return _print_json(answer if name is None else answer[name])
    console = _paint.console()
    for manifold, tasks in found.items():
        _paint.print_stack(console, manifold, tasks)
    return 0


@_telling
def trace(output: Path, *, json: bool = False, socket: Path | None = None) -> int:
    """Write what a program has started and stopped, for a trace viewer.

    Args:
        output: the file.
        json: print the name of the file as JSON.
        socket: where the program listens, if not the only one of yours.
    """
    answer = Client(find_socket(socket)).get("trace.json")
    try:
        output.write_text(_json.dumps(answer) + "\n", encoding="ascii")
    except OSError as exc:
        return _complain(f"{output}: {exc.strerror or exc}", UNKNOWN)
    if json:
        return _print_json({"file": str(output)})
    print(f"{shown(str(output))} is written; open it in ui.perfetto.dev or chrome://tracing")
    return 0


@_telling
def wait(
    *,
    for_: Literal["ready"] = "ready",  # noqa: ARG001 - there is one yet
    timeout: float = 30.0,
    json: bool = False,
    socket: Path | None = None,
) -> int:
    """Wait until a program is ready; it need not run yet.

    It is once all that it wants is started. Exits with 1 if that is not so
    in time, and at once if a manifold was restarted too often.

    Args:
        for_: what to wait for.
        timeout: seconds.
        json: print the last answer as JSON.
        socket: where the program listens, if not the only one of yours.
    """
    if not timeout >= 0:
        return _complain(f"--timeout must be at least 0, not {timeout:g}", UNKNOWN)
    end = time.monotonic() + timeout
    latest: tuple[Any, dict[str, tuple[str, str]]] | None = None
    while True:
        left = end - time.monotonic()
        try:
            client = Client(find_socket(socket), timeout=max(LEAST, min(ANSWER, left)))
            answer = client.get("readyz", also=503)
            latest = answer, told(_told.waiting, answer)
        except (NobodyListens, NoAnswer) as exc:
            if left <= 0 and (latest is None or isinstance(exc, NobodyListens)):
                raise
        if latest is not None:
            answer, waiting = latest
            has_failed = any(state == "failed" for state, _ in waiting.values())
            if not waiting or has_failed or left <= 0:
                return _tell_ready(answer, [sentence for _, sentence in waiting.values()], json)
        time.sleep(max(0.0, min(PAUSE, left)))


# -- what is asked ---------------------------------------------------------------------------------


def _asked(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the report of a program, and whether it is ready."""
    return told(dict, client.get("report")), told(dict, client.get("readyz", also=503))


def _watch(client: Client, *, json: bool) -> int:
    console = _paint.console()
    if not json and _paint.is_live(console):
        _paint.watch(console, _pictures(client))
        return 0
    before: object = None
    while True:
        report, ready = _asked(client)
        picture = told(_told.picture, report, ready)
        now = (picture.dying, [(row.name, row.state, row.starts) for row in picture.rows])
        if now != before and json:
            _print_line({**report, **ready})
        elif now != before:
            _paint.print_picture(console, picture)
            print(flush=True)
        before = now
        time.sleep(PERIOD)


def _pictures(client: Client) -> Iterator[tuple[_told.Picture, str]]:
    """Yield how the program stands, again and again; while it is silent, the last that it said."""
    latest: _told.Picture | None = None
    while True:
        clock = time.strftime("%H:%M:%S")
        try:
            latest = told(_told.picture, *_asked(client))
        except NoAnswer as exc:
            if latest is None:
                raise
            yield latest, f"{clock}  {str(exc).removeprefix(f'{client.path}: ')}"
        else:
            yield latest, f"{clock}  Ctrl-C ends this"
        time.sleep(PERIOD)


def _follow(client: Client, *, json: bool) -> int:
    console = _paint.console()
    for kind, data in client.events():
        if kind == "dropped":
            count = data.get("count", "some") if isinstance(data, dict) else data
            if json:
                _print_line({"dropped": count})
            else:
                _paint.print_event(console, time.time(), f"({count} transitions were not shown)")
        elif json:
            _print_line(data)
        else:
            _paint.print_event(console, time.time(), told(_told.transition, data))
        sys.stdout.flush()
    return 0


def _act(verb: str, name: str, *, json: bool, socket: Path | None) -> int:
    Client(find_socket(socket)).post(verb, name)
    if json:
        return _print_json({"asked": verb, "manifold": name})
    print(f"{shown(name)}: asked for {verb}")
    return 0


def _stacks(answer: Any) -> dict[str, list[_told.Stack]]:
    return {str(name): [_told.stack(task) for task in tasks] for name, tasks in answer.items()}


# -- how it is told --------------------------------------------------------------------------------


def _tell_ready(answer: Any, sentences: list[str], json: bool) -> int:  # noqa: FBT001 - as the option
    if json:
        _print_json(answer)
    elif not sentences:
        print("ready")
    else:
        _complain("\n".join(["not ready", *(f"  {sentence}" for sentence in sentences)]), NO)
    return NO if sentences else 0


def _print_json(value: Any) -> int:
    print(_json.dumps(value, indent=2))
    return 0


def _print_line(value: Any) -> None:
    print(_json.dumps(value), flush=True)


def _complain(text: str, status: int) -> int:
    first, *more = map(shown, text.split("\n"))
    print("\n".join([f"trioworker: {first}", *(f"  {line}" for line in more)]), file=sys.stderr)
    return status
