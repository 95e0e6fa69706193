"""E9 and E14: what filters, ``is_fatal`` and errors themselves may do while an end is judged."""

import pytest
import trio
from trio.testing import MockClock

from trioworker.dependency import Engine, EngineConfig, Getter, Manifold

from .harness import Program, failing


class Domain(Exception):
    """Raised by a worker, which knows no engine."""


class Boom(Exception):
    """Raised by a filter."""


class Frozen(Exception):
    """Refuses to have any of its attributes set."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


async def test_e9_a_broken_filters_error_keeps_its_own_context_and_ends_at_the_original(
    autojump_clock: MockClock,
) -> None:
    original = Domain("original")
    seen: list[Exception] = []

    def own(exc: Exception) -> Exception:
        try:
            raise KeyError("code")
        except KeyError:
            raise Boom("of the filter")  # noqa: B904 - as a careless author writes it

    def engines(exc: Exception) -> Exception:
        seen.append(exc)
        return exc

    program = Program(EngineConfig(filter=engines))
    program.install("db", body=failing(original), filter=own)
    async with program.running(settle=False):
        [broken] = seen
        assert isinstance(broken, Boom)
        assert isinstance(broken.__context__, KeyError)
        assert broken.__context__.__context__ is original


async def test_e9_a_filter_that_raises_what_the_original_came_from_makes_no_circle(
    autojump_clock: MockClock,
) -> None:
    root, original = Boom("root"), Domain("original")
    original.__context__ = root

    def own(exc: Exception) -> Exception:
        raise root

    program = Program()
    program.install("db", body=failing(original), filter=own)
    async with program.running(settle=False) as engine:
        assert engine.report().manifolds["db"].history[0].error == "Boom: root"
        assert root.__context__ is None


async def test_e9_a_filter_may_raise_what_cannot_be_changed(autojump_clock: MockClock) -> None:
    def own(exc: Exception) -> Exception:
        raise Frozen("of the filter")

    program = Program()
    db = program.install("db", body=failing(Domain()), filter=own)
    async with program.running(settle=False) as engine:
        assert db.state == "delayed"
        assert engine.report().manifolds["db"].history[0].error == "Frozen: of the filter"


async def test_e9_is_fatal_may_raise_what_cannot_be_changed() -> None:
    original = Domain("original")

    def is_fatal(exc: BaseException) -> bool:
        raise Frozen("of is_fatal")

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        raise original

    engine = Engine(EngineConfig(is_fatal=is_fatal))
    engine.install("db", Manifold(start))
    with pytest.RaisesGroup(Frozen) as caught:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)

    assert caught.value.exceptions[0].__context__ is original


async def test_e9_an_error_that_calls_a_verb_while_it_is_told_is_obeyed(
    autojump_clock: MockClock,
) -> None:
    """It is asked for its words before anything is decided, as a filter is."""
    program = Program()
    told: list[str] = []

    class Meddling(Exception):
        def __str__(self) -> str:
            if not told:
                told.append(str(program.engine.explain("db")))
                program.engine.restart("db")
            return "meddling"

    db = program.install("db", body=failing(Meddling()))
    async with program.running(settle=False):
        assert told == ["db has been stopping for 0 ms"]
        assert (db.starts, db.state) == (2, "started"), "without a delay: it was asked for"


async def test_e9_one_error_that_ends_two_is_raised_once_and_is_no_note_of_itself() -> None:
    error = Boom("shared")
    program = Program(EngineConfig(is_fatal=lambda exc: True))
    program.install("a", body=failing(error))
    program.install("b", body=failing(error))
    with pytest.raises(Boom) as caught:
        async with program.running(settle=False):
            pass

    assert caught.value is error
    assert not hasattr(error, "__notes__")
