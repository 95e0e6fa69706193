"""A runner starts a failing worker again, until it is stopped."""

import itertools

import trio
from trio.testing import MockClock

from trioworker import RestartPolicy, Runner, RunnerConfig, open_worker, simple_worker

attempts = itertools.count(1)


async def deliver():
    print(f"{trio.current_time():.1f} s: attempt {(attempt := next(attempts))}")
    if attempt < 3:
        raise ConnectionError("no line")
    await trio.sleep_forever()


async def main():
    config = RunnerConfig(is_fatal=lambda error: False, restart=RestartPolicy(jitter=0))
    async with open_worker(Runner(config)) as runner:
        runner.start_worker("mail", lambda: simple_worker(deliver))
        await trio.sleep(10)
        print(f"restarts: {runner.report().workers[0].restarts}")
        await runner.stop_and_remove("mail")
        print(f"left: {runner.names()}")


trio.run(main, clock=MockClock(autojump_threshold=0))  # which does not really wait
