"""A shop that needs prices, which need exchange rates, which are not always to be had."""

import trio

from trioworker import Engine, EngineConfig, Manifold, RestartPolicy, open_worker

answers = iter([None, None, 1.1, 1.2])


@Manifold.from_start
async def rates(get, *, task_status):
    if not (rate := next(answers, None)):
        raise ConnectionError("no line")
    task_status.started(rate)
    await trio.sleep(1)
    raise ConnectionError("the line broke")


@Manifold.from_start(inputs=("rates",))
async def prices(get, *, task_status):
    task_status.started({"tea": 3 * get("rates", float)})
    await trio.sleep_forever()


@Manifold.from_start(inputs=("prices",))
async def shop(get, *, task_status):
    print(f"shop: tea costs {get('prices', dict)['tea']:.2f}")
    task_status.started()
    await trio.sleep_forever()


PARTS = {"shop": shop, "prices": prices, "rates": rates}


async def main():
    engine = Engine(EngineConfig(restart=RestartPolicy(error_delay=0.5, factor=2, jitter=0)))
    engine.install_all(PARTS)
    print("stops with rates:", *engine.blast_radius("rates"))
    async with open_worker(engine):
        for _ in range(3):
            await engine.wait_state("rates", "delayed")
            await engine.wait_state("prices", "waiting")
            print(engine.explain("shop"))
            await engine.wait_state("rates", "starting")
        await engine.wait_state("shop", "started")
    for end in engine.report().manifolds["rates"].history:
        print(f"rates: {end.kind} after {end.lasted:.0f} s ({end.error or end.cause})")


if __name__ == "__main__":
    trio.run(main)
