"""E15: what belongs together has one number, in the events and in the history."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import RestartPolicy
from trioworker.dependency import EngineConfig, Transition

from .harness import Program, failing_when_stopped, return_at_once, when_told


@asynccontextmanager
async def watched(program: Program) -> AsyncGenerator[list[Transition]]:
    """Run `program`; give the transitions after it has settled, and forget those before."""
    seen: list[Transition] = []

    async def read() -> None:
        with program.engine.events() as events:
            async for transition in events:
                seen.append(transition)  # noqa: PERF401 - looked at meanwhile

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        async with program.running():
            await rest(program)
            yield seen


async def rest(program: Program) -> None:
    """Let the engine settle, and its reader have read all about it."""
    await program.settle()
    await wait_all_tasks_blocked()


def origins(seen: list[Transition]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for transition in seen:
        found.setdefault(transition.manifold, set()).add(transition.origin)
    return found


async def test_e15_what_follows_from_one_restart_has_one_number(autojump_clock: MockClock) -> None:
    program = Program()
    program.chain("db", "api", "web")
    program.install("other")
    async with watched(program) as seen:
        seen.clear()
        program.engine.restart("db")
        await rest(program)
        [number] = {t.origin for t in seen}
        assert set(origins(seen)) == {"db", "api", "web"}
        ends = {
            n: m.history[-1].origin for n, m in program.engine.report().manifolds.items() if m.ends
        }
        assert ends == dict.fromkeys(("db", "api", "web"), number)


async def test_e15_two_verbs_have_two_numbers(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("a")
    program.install("b")
    async with watched(program) as seen:
        seen.clear()
        program.engine.restart("a")
        program.engine.restart("b")
        await rest(program)
        a, b = origins(seen)["a"], origins(seen)["b"]
        assert len(a) == len(b) == 1
        assert a != b


async def test_e15_a_crash_its_delay_and_all_that_comes_back_have_one_number(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.chain("db", "api")
    async with watched(program) as seen:
        seen.clear()
        program.doubles["db"].life.fail(OSError("gone"))
        await rest(program)
        assert len({t.origin for t in seen}) == 1
        assert {"delayed", "starting", "started"} <= {str(t.after) for t in seen}
        seen.clear()
        program.doubles["db"].life.fail(OSError("again"))
        await rest(program)
        assert len({t.origin for t in seen}) == 1


async def test_e15_a_return_is_something_new(autojump_clock: MockClock) -> None:
    program = Program()
    program.chain("db", "api")
    async with watched(program) as seen:
        before = {t.origin for t in seen}
        seen.clear()
        program.doubles["db"].life.finish()
        await rest(program)
        [number] = {t.origin for t in seen}
        assert number not in before


async def test_e15_an_error_in_a_planned_stop_belongs_to_the_stop(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db")
    program.install("api", "db", body=failing_when_stopped(OSError("in clean-up")))
    async with watched(program) as seen:
        seen.clear()
        program.engine.restart("db")
        await rest(program)
        assert len({t.origin for t in seen}) == 1


async def test_e15_an_optional_input_that_comes_is_why_its_reader_restarts(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("cache", body=when_told)
    program.engine.hold("cache")
    program.install("api", optional=("cache",))
    async with watched(program) as seen:
        program.engine.release("cache")
        await wait_all_tasks_blocked()
        seen.clear()
        program.doubles["cache"].life.get_ready()
        await rest(program)
        assert origins(seen)["cache"] == origins(seen)["api"]


async def test_e15_one_drain_has_one_number_and_so_has_one_shutdown(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a")
    program.install("b", body=return_at_once)
    program.install("c")
    async with watched(program) as seen:
        seen.clear()
        program.engine.drain()
        await rest(program)
        assert len({t.origin for t in seen}) == 1
        drain = seen[0].origin
        seen.clear()
        program.engine.kill()
        await program.engine.wait()
    [shutdown] = {t.origin for t in seen}
    assert shutdown != drain


async def test_e15_a_fatal_error_and_the_shutdown_that_it_causes_have_one_number(
    autojump_clock: MockClock,
) -> None:
    def is_fatal(exc: BaseException) -> bool:
        return isinstance(exc, OSError)

    program = Program(EngineConfig(is_fatal=is_fatal))
    program.install("db")
    program.install("other")
    with pytest.raises(ExceptionGroup) as caught:
        async with watched(program) as seen:
            seen.clear()
            program.doubles["db"].life.fail(OSError("gone"))
            await wait_all_tasks_blocked()
            [number] = {t.origin for t in seen}
            assert number
            assert {t.manifold for t in seen} == {"db", "other"}
    assert caught.group_contains(OSError)


async def test_e15_what_a_verb_in_an_ask_sets_off_is_told_apart(autojump_clock: MockClock) -> None:
    program = Program()
    other = program.install("other")

    def ask(value: object) -> None:
        program.engine.restart("other")

    program.install("db", ask=ask)
    async with watched(program) as seen:
        seen.clear()
        program.engine.restart("db")
        await rest(program)
        assert other.starts == 2
        assert all(len(numbers) == 1 for numbers in origins(seen).values())
        assert origins(seen)["db"] != origins(seen)["other"]


async def test_e15_a_start_that_is_too_late_is_one_thing_with_its_delay(
    autojump_clock: MockClock,
) -> None:
    program = Program(EngineConfig(restart=RestartPolicy(max_restarts=1)))
    program.install("slow", body=when_told, start_timeout=1.0)
    async with watched(program) as seen:
        await trio.sleep(10)
        await rest(program)
        assert program.states == {"slow": "failed"}
        numbers = [t.origin for t in seen if t.after in {"delayed", "failed"}]
        assert len(numbers) == len(set(numbers)) == 2
