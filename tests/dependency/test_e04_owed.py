"""E4: a run that ends by itself during a drain changes nothing for the others."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Engine, Getter, Manifold


async def test_e4_a_run_that_ends_in_the_middle_of_a_drain_leaves_the_order_as_it_was(
    autojump_clock: MockClock,
) -> None:
    """A <- b <- c: b ends by itself while c takes its time; a waits for c all the same."""
    ends: list[str] = []
    let_b_end = trio.Event()

    def lasting(name: str, *inputs: str, seconds: float = 0.0) -> Manifold:
        async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
            try:
                task_status.started()
                if name == "b":
                    await let_b_end.wait()
                else:
                    await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
                ends.append(name)

        return Manifold(start, inputs=inputs)

    engine = Engine()
    engine.install_all(
        {"a": lasting("a"), "b": lasting("b", "a"), "c": lasting("c", "b", seconds=5)}
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_state("c", "started")
        engine.hold("a")
        let_b_end.set()
        await wait_all_tasks_blocked()

        assert ends == ["b"]
        assert engine.report().manifolds["a"].state == "draining"

        await engine.wait_settled()
        engine.kill()

    assert ends == ["b", "c", "a"]
