"""The reboot: a lock that is not given back, and an error that says how."""

import fcntl
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.patterns.values import Script
from trioworker import Engine, EngineConfig, Getter, Manifold, open_worker
from trioworker.testing import check_alive, clean_kill
from trioworker.workers.coordination.reboot import (
    Action,
    Config,
    MachineDown,
    MachineLock,
    Reboot,
    Reboots,
    execute,
    executing,
    is_fatal,
    manifold,
    worst_error,
)

from .facades import FakeReboots, offering
from .process import running
from .taking import calling, nursery_to_leave

NOTHING, REBOOT, SHUTDOWN = Action.NOTHING, Action.REBOOT, Action.SHUTDOWN


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "machine.lock"


def worker(path: Path, script: Script[Action]) -> Reboot:
    return Reboot(FakeReboots(script), FakeReboots.MACHINE, MachineLock(path))


def is_free(path: Path) -> bool:
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


async def test_nothing_to_do_leaves_it_alive_and_the_lock_free(path: Path) -> None:
    its = worker(path, Script(NOTHING))
    async with trio.open_nursery() as nursery:
        await nursery.start(its.run)
        await check_alive(its)
        assert its.report() == (its.report().tomb, NOTHING, False)
        assert repr(its) == "<Reboot 'reboot' alive, nothing>"
        assert is_free(path)
        await clean_kill(its)


@pytest.mark.parametrize("action", [REBOOT, SHUTDOWN])
async def test_an_action_is_its_error_and_the_lock_is_kept_after_the_end(
    path: Path, action: Action
) -> None:
    script = Script(NOTHING, action)
    its = worker(path, script)
    async with nursery_to_leave() as nursery:
        run = await calling(nursery, its.run)
        assert run.blocks()
        script.tell()
        await run.ended.wait()

    assert isinstance(run.error, MachineDown)
    assert run.error.action is action
    assert its.report().is_locked
    assert not is_free(path)
    told = json.loads(path.read_text())  # noqa: ASYNC240 - it is small
    assert told == {"message": f"preparing for {action}", "pid": os.getpid()}


async def test_the_lock_of_another_is_waited_for(path: Path, autojump_clock: MockClock) -> None:
    its = worker(path, Script(REBOOT))
    other = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    async with nursery_to_leave() as nursery:
        run = await calling(nursery, its.run)
        await trio.sleep(100)
        assert run.blocks()
        assert its.report() == (its.report().tomb, REBOOT, False)
        os.close(other)
        await trio.sleep(1)
        assert its.report().is_locked
        assert isinstance(run.error, MachineDown)


async def test_killed_while_it_waits_for_the_lock_it_ends_cleanly_without_it(
    path: Path, autojump_clock: MockClock
) -> None:
    its = worker(path, Script(REBOOT))
    other = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    async with open_worker(its):
        await check_alive(its)
        await clean_kill(its)
    os.close(other)

    assert is_free(path)


async def test_what_is_left_from_before_a_reboot_is_no_lock(path: Path) -> None:
    """In the original it is one, which is known by its message and broken."""
    path.write_text('{"message": "preparing for reboot", "pid": 1}' * 10)  # noqa: ASYNC240 - small
    with trio.fail_after(5), pytest.raises(MachineDown):
        await worker(path, Script(REBOOT)).run()

    assert json.loads(path.read_text())["pid"] == os.getpid()  # noqa: ASYNC240 - small


async def test_a_second_worker_of_the_process_does_not_wait_for_the_first(path: Path) -> None:
    lock = MachineLock(path)
    for _ in range(2):
        with trio.fail_after(5), pytest.raises(MachineDown):
            await Reboot(FakeReboots(Script(REBOOT)), "3", lock).run()

    assert repr(lock) == f"<MachineLock {str(path)!r}, held>"


async def test_errors_of_asking_watching_and_locking_end_it(path: Path) -> None:
    for script in (Script[Action](OSError("no")), Script(REBOOT, watch_error=OSError("no"))):
        with pytest.raises(OSError, match="no"):
            await worker(path, script).run()
        assert is_free(path)
    with pytest.raises(FileNotFoundError):
        await worker(path.parent / "nowhere" / "lock", Script(REBOOT)).run()


def test_its_only_input_are_reboots(path: Path) -> None:
    made = manifold(Config(machine="3", lock=path))

    assert (made.inputs, made.optional, made.live) == (("reboots",), (), ())


def test_the_config_checks_itself_and_is_frozen(path: Path) -> None:
    with pytest.raises(ValueError, match="machine must be a name"):
        Config(machine="", lock=path)
    with pytest.raises(ValueError, match="lock must name a file, not '/'"):
        Config(machine="3", lock="/")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config(machine="3", lock=path).machine = ""  # type: ignore[misc]  # which is the point


def command(directory: Path, name: str, then: str = "") -> None:
    """Put a command there that notes how it is called, and touches no machine."""
    (directory / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{directory}/record"\n{then}\n')
    (directory / name).chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one directory that is searched for commands, and empty."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


async def test_the_machine_goes_down_by_systemctl(commands: Path) -> None:
    for name in ("systemctl", "reboot", "poweroff"):
        command(commands, name)
    for action in (NOTHING, SHUTDOWN, REBOOT):
        await execute(action)

    assert (commands / "record").read_text() == "systemctl poweroff\nsystemctl reboot\n"


async def test_where_there_is_no_systemctl_it_goes_down_by_older_commands(commands: Path) -> None:
    for name in ("reboot", "poweroff"):
        command(commands, name)
    for action in (SHUTDOWN, REBOOT):
        await execute(action)

    assert (commands / "record").read_text() == "poweroff\nreboot\n"


async def test_a_command_that_is_missing_or_fails_is_an_error(commands: Path) -> None:
    with pytest.raises(FileNotFoundError, match="reboot: there is no systemctl and no reboot"):
        await execute(REBOOT)
    command(commands, "systemctl", "exit 3")
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        await execute(REBOOT)


# -- in an engine ----------------------------------------------------------------------------------


async def test_it_goes_down_when_everything_has_stopped_and_a_second_fatal_error_is_outranked(
    path: Path, autojump_clock: MockClock
) -> None:
    record: list[str] = []
    script = Script(NOTHING, SHUTDOWN)

    async def user(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            record.append("stopped")
            raise OtherFatal

    async def recorder(action: Action) -> None:
        record.append(action)

    def fatal(error: BaseException) -> bool:
        return is_fatal(error) or isinstance(error, OtherFatal)

    engine = Engine(EngineConfig(is_fatal=fatal, worst_error=worst_error))
    engine.install("reboots", offering(Reboots, FakeReboots(script)))
    engine.install("reboot", manifold(Config(machine="3", lock=path)))
    engine.install("user", Manifold(user))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running_engine, engine, recorder)
        await engine.wait_settled()
        await wait_all_tasks_blocked()  # it has asked for the first time
        script.tell()

    assert record == ["stopped", "shutdown"]


class OtherFatal(Exception):
    pass


async def running_engine(engine: Engine, execute: Callable[[Action], Awaitable[object]]) -> None:
    async with executing(execute):
        await engine.run()


def test_of_two_errors_the_one_for_the_machine_is_the_worst() -> None:
    down, later, other = MachineDown(REBOOT), MachineDown(SHUTDOWN), ValueError()

    assert worst_error(other, down) is down
    assert worst_error(down, other) is down
    assert worst_error(down, later) is down
    assert worst_error(other, OtherFatal()) is other


async def test_other_ends_execute_nothing() -> None:
    async def never(action: Action) -> None:
        raise AssertionError(f"called for {action}")

    async with executing(never):
        pass
    with pytest.raises(ValueError, match="other"):
        async with executing(never):
            raise ValueError("other")


async def test_nobody_else_on_the_machine_begins_between_the_error_and_the_end_of_the_process(
    path: Path,
) -> None:
    async with running("go_down", path) as process:
        await process.wait_lines(1)
        assert not is_free(path)
        await process.kill()

    assert process.lines == ["reboot"]
    assert is_free(path)
