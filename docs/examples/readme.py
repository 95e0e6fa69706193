"""A page that needs a feed that fails at first."""

import trio

from trioworker import Engine, EngineConfig, Manifold, RestartPolicy, open_worker

tries = iter(["no line", "no line", None])


@Manifold.from_start
async def feed(get, *, task_status):
    if problem := next(tries, None):
        raise ConnectionError(problem)
    task_status.started(["Ada", "Grace"])  # ready; this is what others get
    await trio.sleep_forever()  # until stopped


@Manifold.from_start(inputs=("feed",))
async def page(get, *, task_status):
    print("page shows", get("feed", list))
    task_status.started()
    await trio.sleep_forever()


async def main():
    engine = Engine(EngineConfig(restart=RestartPolicy(error_delay=0.2, jitter=0)))
    engine.install_all({"page": page, "feed": feed})
    async with open_worker(engine):
        for _ in range(2):
            await engine.wait_state("feed", "delayed")
            print(engine.explain("page"))
            await engine.wait_state("feed", "starting")
        await engine.wait_state("page", "started")


trio.run(main)
