"""What every store of leases promises, asked of each of them.

A store is opened by `STORES`, twice on the same data where that is possible: as by two processes.
Time is passed in, so nothing here waits; a server that measures time itself has it played to it.
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from trioworker.workers.coordination.lease import (
    Held,
    Info,
    Invalid,
    Key,
    LeasePinned,
    MemoryStore,
    Request,
    Store,
    open_sqlite_store,
)

from .clocked import open_postgres_playing
from .lessor import open_etcd_playing

A = Key("leadership", "one", "app")
ELSEWHERE = [Key("singular", "one", "app"), Key("leadership", "two", "app"), A._replace(name="b")]
ME, YOU = Request("me", 60), Request("you", 60)
T = 1_700_000_000.0
ODD = [
    "a/b",
    "a%2Fb",
    "..",
    " ",
    "a\u0308",
    "\u00e4",
    "\U0001f40c",
    "a\nb",
    "a'; --",
    "%s {0}",
    "A",
]


@asynccontextmanager
async def memory(path: Path) -> AsyncGenerator[Store]:
    yield MemoryStore()


Open = Callable[[Path], AbstractAsyncContextManager[Store]]

STORES: dict[str, Open] = {
    "memory": memory,
    "sqlite": lambda path: open_sqlite_store(path / "leases.db"),
    "etcd": lambda path: open_etcd_playing(URLS["etcd"], path),
    "postgres": lambda path: open_postgres_playing(URLS["postgres"], path),
}
LASTING = ["sqlite", "etcd", "postgres"]
"""Those that others can open at the same time, and again later."""
SERVERS = {"etcd", "postgres"}
"""Those that are on a server: the fixture of that name starts it, and its `url` is in `URLS`."""
URLS: dict[str, str] = {}


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The store's; its server runs."""
    found: str = request.param
    if found in SERVERS:
        URLS[found] = request.getfixturevalue(found).url
    return found


@pytest.fixture
async def store(name: str, tmp_path: Path) -> AsyncGenerator[Store]:
    async with STORES[name](tmp_path) as store:
        yield store


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask all stores; a test that takes a `name` says itself which."""
    if "store" in metafunc.fixturenames:
        metafunc.parametrize("name", STORES, indirect=True)


async def test_it_is_a_store(store: Store) -> None:
    assert isinstance(store, Store)


async def test_what_is_claimed_is_held_for_its_duration(store: Store) -> None:
    granted = await store.claim(A, ME, T)

    assert granted == Info("me", T + 60, granted.token, is_pinned=False)
    assert await store.leases(T + 59.999) == {A: granted}
    assert await store.leases(T + 59.999, A) == {A: granted}
    assert await store.leases(T + 60) == await store.leases(T + 60, A) == {}


async def test_the_same_name_elsewhere_is_another_lease(store: Store) -> None:
    for key in [A, *ELSEWHERE]:
        await store.claim(key, ME, T)
        await store.pin(key, "upgrade", T)
    await store.unpin(A, "upgrade", T)
    await store.revoke(A, "me", T)

    assert set(await store.leases(T)) == set(await store.pinned(T)) == set(ELSEWHERE)
    for key in ELSEWHERE:
        assert set(await store.leases(T, key)) == {key}


@pytest.mark.parametrize("request_", [ME, YOU], ids=["same-holder", "another"])
async def test_what_is_held_cannot_be_claimed_and_stays_as_it_is(
    store: Store, request_: Request
) -> None:
    granted = await store.claim(A, ME, T)
    with pytest.raises(Held):
        await store.claim(A, request_, T + 1)

    assert await store.leases(T) == {A: granted}


@pytest.mark.parametrize("request_", [ME, YOU], ids=["same-holder", "another"])
async def test_a_lapsed_lease_can_be_claimed_though_nobody_deleted_it(
    store: Store, request_: Request
) -> None:
    before = await store.claim(A, ME, T)
    after = await store.claim(A, request_, T + 60)

    assert after == Info(request_.holder, T + 120, after.token)
    assert after.token > before.token
    assert await store.leases(T + 60) == {A: after}


async def test_an_extension_counts_from_now_and_keeps_the_token(store: Store) -> None:
    granted = await store.claim(A, ME, T)
    extended = await store.extend(A, ME, T + 30)

    assert extended == granted._replace(expiry=T + 90)
    assert await store.leases(T) == {A: extended}


async def test_an_extension_never_shortens(store: Store) -> None:
    """An earlier grant would outlast what the store knows, and another's term begin in it."""
    granted = await store.claim(A, ME, T)

    assert await store.extend(A, Request("me", 1), T) == granted
    assert await store.extend(A, ME, T - 30) == granted


async def test_nobody_extends_or_revokes_what_is_anothers(store: Store) -> None:
    granted = await store.claim(A, ME, T)
    with pytest.raises(Invalid):
        await store.extend(A, YOU, T)
    with pytest.raises(Invalid):
        await store.revoke(A, "you", T)

    assert await store.leases(T) == {A: granted}


@pytest.mark.parametrize("how", ["never claimed", "lapsed", "deleted", "revoked"])
async def test_nobody_extends_or_revokes_what_is_free(store: Store, how: str) -> None:
    if how != "never claimed":
        await store.claim(A, ME, T)
    if how == "revoked":
        await store.revoke(A, "me", T)
    if how == "deleted":
        await store.expire(T + 60)
    with pytest.raises(Invalid):
        await store.extend(A, ME, T + 60)
    with pytest.raises(Invalid):
        await store.revoke(A, "me", T + 60)

    assert await store.leases(T + 60) == {}


async def test_what_is_revoked_is_free_at_once(store: Store) -> None:
    await store.claim(A, ME, T)
    await store.revoke(A, "me", T)

    assert await store.leases(T) == {}
    assert (await store.claim(A, YOU, T)).holder == "you"


async def test_tokens_only_grow_whatever_happened_before(store: Store) -> None:
    tokens = [(await store.claim(A, ME, T)).token]
    await store.revoke(A, "me", T)
    tokens.append((await store.claim(A, YOU, T)).token)
    tokens.append((await store.claim(A, ME, T + 60)).token)
    await store.expire(T + 120)
    tokens.append((await store.claim(ELSEWHERE[0], ME, T + 120)).token)
    with pytest.raises(Held):
        await store.claim(ELSEWHERE[0], YOU, T + 120)
    tokens.append((await store.claim(A, YOU, T + 120)).token)

    assert tokens == sorted(set(tokens))


async def test_a_pinned_lease_does_not_lapse(store: Store) -> None:
    granted = await store.claim(A, ME, T)
    await store.pin(A, "upgrade", T)

    assert await store.expire(T + 1000) == 0
    assert await store.leases(T + 1000) == {A: granted._replace(is_pinned=True)}
    with pytest.raises(Held):
        await store.claim(A, YOU, T + 1000)
    extended = await store.extend(A, ME, T + 1000)
    assert extended == granted._replace(expiry=T + 1060, is_pinned=True)


async def test_a_pinned_lease_cannot_be_revoked(store: Store) -> None:
    await store.claim(A, ME, T)
    await store.pin(A, "upgrade", T)
    with pytest.raises(LeasePinned):
        await store.revoke(A, "me", T)
    with pytest.raises(Invalid):
        await store.revoke(A, "you", T)

    await store.unpin(A, "upgrade", T)
    await store.revoke(A, "me", T)


async def test_it_is_pinned_until_the_last_has_unpinned_it(store: Store) -> None:
    await store.claim(A, ME, T)
    for entity in ("one", "two", "one"):  # twice is once
        await store.pin(A, entity, T)
    assert await store.pinned(T) == {A: {"one", "two"}}

    await store.unpin(A, "one", T)
    await store.unpin(A, "one", T)
    assert await store.pinned(T) == {A: {"two"}}
    assert A in await store.leases(T + 60)

    await store.unpin(A, "two", T)
    assert await store.pinned(T) == {}
    assert await store.leases(T + 60) == {}
    assert await store.expire(T + 60) == 1


async def test_odd_names_are_names_like_any_other(store: Store) -> None:
    keys = [A._replace(name=name) for name in ODD] + [A._replace(model=name) for name in ODD]
    for key in keys:
        await store.claim(key, Request(key.name, 60), T)
        await store.pin(key, key.name, T)

    assert await store.pinned(T) == {key: {key.name} for key in keys}
    for key in keys:
        assert (await store.leases(T, key))[key].holder == key.name
        await store.unpin(key, key.name, T)
        await store.revoke(key, key.name, T)
    assert await store.leases(T) == {}


async def test_a_name_may_be_as_long_as_any(store: Store) -> None:
    """Of letters that cannot be compressed, in all parts at once."""
    long = "".join(random.Random(seed).choice("\u00e4\u00f6\u00fc\u00df") for seed in range(300))
    key = Key(long[::-1], long, long)
    await store.claim(key, Request(long, 1e6), T)
    await store.pin(key, long, T)
    assert set(await store.leases(T)) == {key}


@pytest.mark.parametrize("how", ["lapsed", "never claimed"])
async def test_what_is_free_cannot_be_pinned_and_nobody_complains(store: Store, how: str) -> None:
    if how == "lapsed":
        await store.claim(A, ME, T)
    await store.pin(A, "upgrade", T + 60)
    await store.unpin(A, "upgrade", T + 60)
    await store.pin(A, "upgrade", T + 60)

    assert await store.pinned(T + 60) == {}
    assert (await store.claim(A, YOU, T + 60)).is_pinned is False


async def test_only_what_is_not_held_is_deleted(store: Store) -> None:
    await store.claim(A, ME, T)
    await store.claim(ELSEWHERE[0], Request("me", 61), T)

    assert await store.expire(T + 59.999) == 0
    assert await store.expire(T + 60) == 1
    assert await store.expire(T + 60) == 0
    assert set(await store.leases(T)) == {ELSEWHERE[0]}


async def test_each_call_is_a_checkpoint(store: Store) -> None:
    await store.claim(A, ME, T)
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.leases(T)
    assert scope.cancelled_caught
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.revoke(A, "me", T)
    assert scope.cancelled_caught
    assert A in await store.leases(T)


async def test_of_many_who_claim_together_one_gets_it(store: Store) -> None:
    granted: list[Info] = []

    async def claim(holder: str) -> None:
        with suppress(Held):
            granted.append(await store.claim(A, Request(holder, 60), T))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(claim, f"holder-{number}")

    [info] = granted
    assert await store.leases(T) == {A: info}


@pytest.mark.parametrize("name", LASTING, indirect=True)
async def test_others_see_it_at_once_and_tokens_grow_over_restarts(
    name: str, tmp_path: Path
) -> None:
    async with STORES[name](tmp_path) as one, STORES[name](tmp_path) as other:
        first = await one.claim(A, ME, T)
        assert await other.leases(T) == {A: first}
        with pytest.raises(Held):
            await other.claim(A, YOU, T)
        await one.revoke(A, "me", T)
        second = await other.claim(A, YOU, T)
        await other.revoke(A, "you", T)
    async with STORES[name](tmp_path) as again:
        third = await again.claim(A, ME, T)

    assert first.token < second.token < third.token


@pytest.mark.parametrize("name", LASTING, indirect=True)
async def test_two_stores_have_nothing_in_common_also_if_one_is_below_the_other(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    theirs = [Key("singular", "one", part) for part in ("holder", "until", "term", "pin")]
    ours = Key("b", "singular", "one")  # where theirs would be, if that were told by the path alone
    async with STORES[name](tmp_path) as store, STORES[name](tmp_path / "b") as below:
        granted = {key: await below.claim(key, ME, T) for key in theirs}
        for key in theirs:
            await below.pin(key, "upgrade", T)
        assert await store.leases(T) == {}
        assert await store.pinned(T) == {}

        await store.claim(ours, YOU, T)
        assert set(await store.leases(T)) == {ours}
        await store.revoke(ours, "you", T)
        await store.claim(ours, YOU, T)
        assert await store.expire(T + 60) == 1
        held = {key: info._replace(is_pinned=True) for key, info in granted.items()}
        assert await below.leases(T) == held


async def outcome(store: Store, chance: random.Random, now: float) -> object:
    """Do something, the same for the same `chance`, and tell what came of it."""
    key = chance.choice([A, *ELSEWHERE])
    holder, entity = chance.choice("xyz"), chance.choice("pq")
    request = Request(holder, chance.choice([5, 20]))
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.claim(key, request, now),
        lambda: store.extend(key, request, now),
        lambda: store.revoke(key, holder, now),
        lambda: store.pin(key, entity, now),
        lambda: store.unpin(key, entity, now),
        lambda: store.expire(now),
    ]
    call = chance.choices(calls, [6, 4, 2, 1, 2, 1])[0]
    try:
        done = await call()
    except (Held, Invalid, LeasePinned) as error:
        done = type(error)
    if isinstance(done, Info):
        done = done._replace(token=0)
    told = {key: info._replace(token=0) for key, info in (await store.leases(now)).items()}
    return done, told, await store.pinned(now)


@pytest.mark.parametrize("name", [name for name in STORES if name != "memory"], indirect=True)
async def test_whatever_is_done_it_says_the_same_as_the_one_in_memory(
    name: str, tmp_path: Path, scale: int
) -> None:
    async with STORES[name](tmp_path) as store, memory(tmp_path) as model:
        now = T
        for seed in range(100 * scale):
            now += random.Random(seed).choice([0, 1, 3])
            expected = await outcome(model, random.Random(seed), now)
            assert await outcome(store, random.Random(seed), now) == expected, seed
