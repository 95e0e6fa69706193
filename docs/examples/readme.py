"""A page that needs a feed, which fails at first."""

import trio

from trioworker import Engine, Manifold, open_worker

tries = iter([ConnectionError("no line"), None])


@Manifold.from_start
async def feed(get, *, task_status):
    if error := next(tries):
        raise error
    task_status.started(["Ada", "Grace"])  # ready; this is what others get
    await trio.sleep_forever()  # until stopped


@Manifold.from_start(inputs=("feed",))
async def page(get, *, task_status):
    task_status.started()
    print("page shows", get("feed", list))
    await trio.sleep_forever()


async def main():
    async with open_worker(Engine()) as engine:
        engine.install_all({"page": page, "feed": feed})
        await engine.wait_state("feed", "delayed")
        print(engine.explain("page"))
        await engine.wait_state("page", "started")


trio.run(main)
