"""What systemd is told: a real socket, as systemd's own."""

import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Engine, EngineConfig, Getter, Manifold
from trioworker.agent import run_engine
from trioworker.agent._systemd import Systemd


class Listening:
    """What was told, oldest first."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def told(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found.append(self._socket.recv(10_000).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    listening = Listening(path)
    yield listening
    listening.close()


async def serve(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def test_ready_is_told_once_when_all_that_is_wanted_is_started(
    systemd: Listening, autojump_clock: MockClock
) -> None:
    go_on = trio.Event()

    async def slow(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        await go_on.wait()
        await serve(get, task_status=task_status)

    engine = Engine()
    engine.install("db", Manifold(slow))
    engine.install("web", Manifold(serve, inputs=("db",)))
    engine.install("spare", Manifold(serve))
    engine.hold("spare")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, engine)
        await trio.sleep(10)
        waiting = systemd.told()
        go_on.set()
        await engine.wait_state("web", "started")
        await trio.sleep(10)
        ready = systemd.told()
        engine.restart("db")
        await trio.sleep(10)
        restarted = systemd.told()
        engine.kill()

    assert all("READY" not in text for text in waiting)
    assert waiting[-1].startswith("STATUS=waiting: db ")
    assert waiting[-1].endswith(" (and 1 more)")
    assert ready[-1] == "READY=1\nSTATUS=all that is wanted of 3 manifolds is started"
    assert all("READY" not in text for text in restarted)
    assert systemd.told() == ["STOPPING=1\nSTATUS=stopping"]


async def test_stopping_is_told_when_it_begins(
    systemd: Listening, autojump_clock: MockClock
) -> None:
    async def slow(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)

    engine = Engine()
    engine.install("db", Manifold(slow, stop_timeout=90))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, engine)
        await trio.sleep(10)
        systemd.told()
        engine.kill()
        await trio.sleep(10)
        assert systemd.told() == ["STOPPING=1\nSTATUS=stopping"]
        assert engine.state == "dying"


async def test_secrets_are_masked_in_the_status_and_it_is_one_line(
    systemd: Listening, autojump_clock: MockClock
) -> None:
    async def fail(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        raise OSError("sesame\nREADY=1")

    engine = Engine()
    engine.install("db", Manifold(fail))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: run_engine(engine, mask=lambda text: text.replace("sesame", "${TOKEN}"))
        )
        await engine.wait_state("db", "delayed")
        await trio.sleep(0.9)
        engine.kill()

    told = systemd.told()
    assert any("OSError: ${TOKEN} READY=1" in text for text in told)
    assert not [line for text in told for line in text.splitlines() if line == "READY=1"]


async def test_the_text_of_an_error_ends_no_program_and_moves_no_cursor(
    systemd: Listening, autojump_clock: MockClock
) -> None:
    async def fail(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        raise OSError("no such file: \udcff \x1b[2J \u202e")

    engine = Engine()
    engine.install("db", Manifold(fail))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, engine)
        await trio.sleep(10)
        assert engine.state == "alive"
        engine.kill()

    told = systemd.told()
    assert any("no such file: \\udcff \\x1b[2J \\u202e" in text for text in told)


def test_what_no_encoding_has_is_sent_as_an_escape(systemd: Listening) -> None:
    assert Systemd.here().notify("STATUS=\udcff")

    assert systemd.told() == ["STATUS=\\udcff"]


async def test_nothing_that_happens_counts_as_lost_because_systemd_is_told(
    systemd: Listening, autojump_clock: MockClock
) -> None:
    metrics = MagicMock()
    engine = Engine(EngineConfig(metrics=metrics))
    engine.install_all({name: Manifold(serve) for name in "abc"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, engine)
        await trio.sleep(10)
        engine.restart("a")
        await trio.sleep(10)
        engine.kill()

    assert metrics.state.called
    assert not metrics.drop.called


async def test_ready_is_told_again_to_a_supervisor_that_was_too_busy(
    systemd: Listening, autojump_clock: MockClock
) -> None:
    here = Systemd.here()
    count = 0
    while here.notify("X=1"):
        count += 1
    engine = Engine()
    engine.install("db", Manifold(serve))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, engine)
        await trio.sleep(10)
        assert systemd.told() == ["X=1"] * count
        await trio.sleep(10)
        told = systemd.told()
        assert len(told) == 1
        assert told[0].startswith("READY=1\n")
        engine.kill()


async def test_the_engines_error_is_raised_as_it_is_with_a_supervisor_and_a_watchdog(
    systemd: Listening, autojump_clock: MockClock
) -> None:
    error = OSError("gone")

    async def fail(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        raise error

    engine = Engine(EngineConfig(is_fatal=lambda _: True))
    engine.install("db", Manifold(fail))

    with pytest.raises(OSError, match="gone") as caught:
        await run_engine(engine, watchdog=5)

    assert caught.value is error
    assert systemd.told()[-1] == "STOPPING=1\nSTATUS=stopping"


async def test_its_watchdog_is_fed(systemd: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    engine = Engine()
    engine.install("db", Manifold(serve))
    fed = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, engine)
        with trio.fail_after(20):
            while fed < 3:
                fed += systemd.told().count("WATCHDOG=1")
                await trio.lowlevel.checkpoint()
        engine.kill()


async def test_the_engines_metrics_are_told_of_stalls() -> None:
    stalls: list[float] = []
    hook = MagicMock(stall=stalls.append)

    async def block(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        time.sleep(0.05)  # noqa: ASYNC251 - this is the fault
        await serve(get, task_status=task_status)

    engine = Engine(EngineConfig(metrics=hook))
    engine.install("db", Manifold(block))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_engine, engine, watchdog=0.01))
        await engine.wait_state("db", "started")
        while not stalls:
            await trio.lowlevel.checkpoint()
        engine.kill()

    assert max(stalls) >= 0.05


async def test_without_systemd_nobody_is_told_and_nothing_watches(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    engine = Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, engine)
        await wait_all_tasks_blocked()
        [run] = nursery.child_tasks
        names = {task.name for inner in run.child_nurseries for task in inner.child_tasks}
        engine.kill()

    assert names == {"_Signals", "engine: watcher", "engine: timers"}


@pytest.mark.parametrize(
    "environ, seconds",
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "17"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "18"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_of_systemd_is_for_the_process_that_it_names(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Systemd({"NOTIFY_SOCKET": "/x", **environ}, 17).watchdog_seconds == seconds


def test_an_abstract_socket_is_told_too() -> None:
    name = f"trioworker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")

        Systemd({"NOTIFY_SOCKET": f"@{name}"}, 17).notify("READY=1", "STATUS=fine")

        assert sock.recv(100) == b"READY=1\nSTATUS=fine"


@pytest.mark.parametrize("address", ["", "vsock:2:1234"])
def test_there_is_nobody_to_tell_at_an_address_that_is_no_socket(address: str) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}, 17)

    systemd.notify("READY=1")
    assert (systemd.is_listening, systemd.watchdog_seconds) == (False, None)


def test_a_supervisor_that_does_not_listen_is_complained_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, 17)

    systemd.notify("READY=1")
    systemd.feed()

    [record] = caplog.records
    assert record.getMessage().startswith("systemd cannot be told READY=1: ")
