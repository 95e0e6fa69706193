"""E15: which manifolds a program is not ready for, the causes first."""

from trio.testing import MockClock

from .harness import Program, return_at_once


async def test_e15_who_is_wanted_and_not_started_is_told_and_the_causes_first(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("top", "web")
    program.install("web", "db")
    db = program.install("db")
    program.install("set-up", body=return_at_once)
    program.install("spare")
    async with program.running() as engine:
        engine.hold("spare")
        await program.settle()
        ready = engine.report().unready()
        db.life.fail(OSError("gone"))
        await engine.wait_state("top", "waiting")
        await engine.wait_state("web", "waiting")
        unready = engine.report().unready()

    assert ready == ()
    assert [(one.name, one.state) for one in unready] == [
        ("db", "delayed"),
        ("top", "waiting"),
        ("web", "waiting"),
    ]
