"""Three manifolds that need each other; one of them fails at first."""

import itertools

import trio

from trioworker import Engine, EngineConfig, Manifold, RestartPolicy, open_worker

attempts = itertools.count(1)


@Manifold.from_start
async def database(get, *, task_status):
    task_status.started(["Ada", "Grace"])  # ready: this list is what the others get
    await trio.sleep_forever()  # until stopped


@Manifold.from_start(inputs=("database",))
async def feed(get, *, task_status):
    if (attempt := next(attempts)) < 3:
        raise ConnectionError(f"no line at attempt {attempt}")
    task_status.started(f"connected at attempt {attempt}")
    await trio.sleep_forever()


@Manifold.from_start(inputs=("database", "feed"))
async def page(get, *, task_status):
    print(f"page: {get('database', list)}, {get('feed', str)}")
    task_status.started()
    await trio.sleep_forever()


async def main():
    engine = Engine(EngineConfig(restart=RestartPolicy(error_delay=0.05)))
    engine.install_all({"page": page, "feed": feed, "database": database})
    with engine.events() as events:
        async with open_worker(engine):
            await engine.wait_state("page", "started")
        async for transition in events:
            print(transition)


trio.run(main)
