"""Leases in etcd, beside what the contract of stores says: real time, late calls, lost answers."""

import os
import re
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast, final

import attrs
import pytest
import trio

from tests.pages import DOCS
from tests.services.etcd import Cluster, Member, certificate
from tests.services.process import BOUND, Port, binary
from tests.workers.coordination.taking import Taker
from trioworker import open_worker
from trioworker.agent import load
from trioworker.backends.etcd import Client, EtcdRefused, EtcdUnavailable, open_etcd
from trioworker.workers.coordination.lease import (
    Busy,
    EtcdConfig,
    Held,
    Info,
    Invalid,
    Key,
    Leases,
    Request,
    Store,
    open_etcd_store,
)
from trioworker.workers.coordination.lease._etcd import EtcdStore

A = Key("singular", "", "a")
NOW = 1_700_000_000.0
HOURS = 3600.0


@pytest.fixture
def config(etcd: Member, tmp_path: Path) -> EtcdConfig:
    return EtcdConfig(endpoints=(etcd.url,), prefix=f"{tmp_path}/", timeout=BOUND)


@pytest.fixture
async def store(config: EtcdConfig) -> AsyncGenerator[Store]:
    async with open_etcd_store(config) as store:
        yield store


async def end_terms(config: EtcdConfig, kind: str = "") -> None:
    """Do what etcd does itself when the terms are over; to those of so many seconds, if told."""
    async with open_etcd(config.endpoints, timeout=BOUND) as client:
        for kv in await client.read(config.prefix.encode(), prefix=True):
            if f"/term/{kind}" in kv.key.decode():
                await client.revoke(kv.lease)


# -- whose time it is ------------------------------------------------------------------------------


@pytest.mark.full
async def test_etcd_ends_a_term_by_itself_but_not_too_early(store: Store) -> None:
    began = trio.current_time()
    first = await store.claim(A, Request("me", 2.5), NOW)
    with trio.fail_after(BOUND):
        while await store.leases(NOW, A):  # noqa: ASYNC110 - it is etcd that we wait for
            await trio.sleep(0.02)

    assert trio.current_time() - began > 2.5
    assert await store.expire(NOW) == 1
    assert (await store.claim(A, Request("you", 1), NOW)).token > first.token


@pytest.mark.parametrize("seconds, granted", [(0.001, 1), (1, 1), (59.01, 60)])
async def test_seconds_are_rounded_up(config: EtcdConfig, seconds: float, granted: int) -> None:
    async with open_etcd(config.endpoints, timeout=BOUND) as client:
        asked = Slow(client, trio.lowlevel.checkpoint)
        store = EtcdStore(cast("Client", asked), config.prefix)
        with suppress(Busy):  # it took a second to get there
            await store.claim(A, Request("me", seconds), NOW)
    assert asked.seconds == [granted]


async def test_whatever_the_clocks_say_a_term_is_not_over_before_etcd_says_so(
    store: Store,
) -> None:
    granted = await store.claim(A, Request("me", 60), NOW)
    with pytest.raises(Held):
        await store.claim(A, Request("you", 60), NOW + 9 * HOURS)
    told = (await store.leases(NOW + 9 * HOURS))[A]
    assert told == granted._replace(expiry=told.expiry)
    assert NOW + 9 * HOURS < told.expiry < NOW + 9 * HOURS + 1  # to look again soon
    assert await store.expire(NOW + 9 * HOURS) == 0

    await store.extend(A, Request("me", 60), NOW - 9 * HOURS)
    assert await store.leases(NOW) == {A: granted}


async def test_an_extension_is_a_new_lease_of_etcd_and_the_old_one_ends_nothing(
    store: Store, config: EtcdConfig
) -> None:
    await store.claim(A, Request("me", 60), NOW)
    async with open_etcd(config.endpoints, timeout=BOUND) as client:
        [first] = await client.read(f"{config.prefix}/singular//a/term/60".encode())
        extended = await store.extend(A, Request("me", 60), NOW)
        [second] = await client.read(first.key)
        assert first.lease != second.lease != 0
        await client.revoke(first.lease)
        assert await store.leases(NOW) == {A: extended}
        await client.revoke(second.lease)
        assert await store.leases(NOW) == {}


async def test_an_extension_by_less_leaves_what_was_granted(
    store: Store, config: EtcdConfig
) -> None:
    await store.claim(A, Request("me", 60), NOW)
    extended = await store.extend(A, Request("me", 10), NOW)
    await end_terms(config, "10")
    assert await store.leases(NOW) == {A: extended}
    await end_terms(config, "60")
    assert await store.leases(NOW) == {}


async def test_what_is_over_meanwhile_is_not_extended(store: Store, config: EtcdConfig) -> None:
    for seconds in (60, 10):
        await store.claim(A, Request("me", 60), NOW)
        async with open_etcd(config.endpoints, timeout=BOUND) as client:
            late = slow(client, config, lambda: end_terms(config, "60"))
            with pytest.raises(Invalid, match="changed meanwhile"):
                await late.extend(A, Request("me", seconds), NOW)
        assert await store.leases(NOW) == {}


# -- late calls and lost answers -------------------------------------------------------------------


@final
class Slow:
    """A client of etcd that does something before each transaction."""

    def __init__(self, client: Client, before: Callable[[], Awaitable[object]]) -> None:
        self._client = client
        self._before = before
        self.read = client.read
        self.leases: list[int] = []
        self.seconds: list[int] = []

    async def grant(self, ttl: int) -> int:
        self.seconds.append(ttl)
        self.leases.append(await self._client.grant(ttl))
        return self.leases[-1]

    async def txn(self, *args: Any) -> Any:
        await self._before()
        return await self._client.txn(*args)


def slow(client: Client, config: EtcdConfig, before: Callable[[], Awaitable[object]]) -> EtcdStore:
    return EtcdStore(cast("Client", Slow(client, before)), config.prefix)


@pytest.mark.parametrize("seconds", [60, 10])
async def test_an_extension_that_comes_late_does_not_put_an_older_term_in_place_of_a_younger(
    store: Store, config: EtcdConfig, seconds: float
) -> None:
    """As when a call was given up, but is still on its way when the next one is answered."""
    await store.claim(A, Request("me", 60), NOW)
    again = Request("me", seconds)
    async with open_etcd(config.endpoints, timeout=BOUND) as client:
        late = slow(client, config, lambda: store.extend(A, again, NOW + 100))
        with pytest.raises(Invalid, match="changed meanwhile"):
            await late.extend(A, again, NOW)
    assert (await store.leases(NOW))[A].expiry == NOW + 100 + seconds


@pytest.mark.parametrize("what", ["extend", "extend by another length", "revoke"])
async def test_nothing_is_done_to_the_lease_of_the_next_holder(
    store: Store, config: EtcdConfig, what: str
) -> None:
    next_: dict[Key, Info] = {}

    async def changes_hands() -> None:
        await store.revoke(A, "me", NOW)
        next_[A] = await store.claim(A, Request("me", 30), NOW)  # also if it has the same name

    await store.claim(A, Request("me", 60), NOW)
    async with open_etcd(config.endpoints, timeout=BOUND) as client:
        late = slow(client, config, changes_hands)
        with pytest.raises(Invalid):
            if what == "revoke":
                await late.revoke(A, "me", NOW)
            else:
                await late.extend(A, Request("me", 60 if what == "extend" else 10), NOW)
    assert await store.leases(NOW) == next_


async def test_what_is_pinned_meanwhile_is_not_revoked(store: Store, config: EtcdConfig) -> None:
    await store.claim(A, Request("me", 60), NOW)
    async with open_etcd(config.endpoints, timeout=BOUND) as client:
        late = slow(client, config, lambda: store.pin(A, "upgrade", NOW))
        with pytest.raises(Invalid):
            await late.revoke(A, "me", NOW)
    assert await store.pinned(NOW) == {A: {"upgrade"}}


async def test_what_is_claimed_meanwhile_is_not_deleted(store: Store, config: EtcdConfig) -> None:
    async with open_etcd(config.endpoints, timeout=BOUND) as client:
        late = slow(client, config, lambda: store.claim(A, Request("you", 60), NOW))
        await store.claim(A, Request("me", 60), NOW)
        await end_terms(config)
        assert await late.expire(NOW) == 0
    assert (await store.leases(NOW))[A].holder == "you"


async def test_a_claim_so_slow_that_its_term_is_over_is_tried_again(
    config: EtcdConfig,
) -> None:
    async with open_etcd(config.endpoints, timeout=BOUND) as client:
        late = slow(client, config, lambda: client.revoke(faked.leases[-1]))
        faked = cast("Slow", late._client)
        with pytest.raises(Busy, match="lease not found"):
            await late.claim(A, Request("me", 60), NOW)
        assert await late.leases(NOW) == {}


async def test_a_lost_answer_is_worth_another_try_and_a_refusal_is_not(
    config: EtcdConfig,
) -> None:
    for error, expected in [
        (EtcdUnavailable("it hung up"), Busy),
        (EtcdRefused("here", 7, "permission denied"), EtcdRefused),
    ]:

        async def fail(error: Exception = error) -> None:
            raise error

        async with open_etcd(config.endpoints, timeout=BOUND) as client:
            with pytest.raises(expected):
                await slow(client, config, fail).claim(A, Request("me", 60), NOW)


# -- the rest --------------------------------------------------------------------------------------


async def test_names_may_be_anything(store: Store) -> None:
    odd = Key("a/b", "", "/holder/ü %\n")
    keys = [odd, odd._replace(name="/holder"), Key("a", "b", "/holder")]
    for key in keys:
        granted = await store.claim(key, Request("me/ü", 60), NOW)
        await store.pin(key, "x/y %", NOW)
        assert await store.leases(NOW, key) == {key: granted._replace(is_pinned=True)}
    assert await store.pinned(NOW) == {key: {"x/y %"} for key in keys}


@pytest.mark.full
async def test_many_are_deleted_in_bites(store: Store, config: EtcdConfig) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(140):
            request = Request("me", 90 if number else 60)
            nursery.start_soon(store.claim, A._replace(name=str(number)), request, NOW)
    await end_terms(config, "90")

    assert await store.expire(NOW) == 139
    async with open_etcd(config.endpoints, timeout=BOUND) as client:
        left = await client.read(config.prefix.encode(), prefix=True)
    assert [kv.key.removeprefix(config.prefix.encode()) for kv in left] == [
        b"/singular//0/holder",
        b"/singular//0/term/60",
        b"/singular//0/until",
    ]


async def test_an_agent_file_has_leases_in_etcd_and_hides_the_password(
    config: EtcdConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wing = "trioworker.workers.coordination.lease"
    file = tmp_path / "agent.toml"
    store = f'endpoints = ["{config.endpoints[0]}"], prefix = "{config.prefix}"'
    text = (
        f'[manifolds.store]\nuse = "{wing}:etcd_store"\nconfig = {{ {store} }}\n'
        f'[manifolds.leases]\nuse = "{wing}:manifold"\n'
    )
    file.write_text(text)
    async with open_worker(load(file).engine()) as engine:
        taker = Taker("leases", Leases)
        engine.install("taker", taker.manifold())
        await engine.wait_state("taker", "started")
        grant = await taker[Leases].claimer("singular").claim("a", "me", 60)
        again = await taker[Leases].claimer("singular").claim("a", "me", 60)
        assert again.token == grant.token
        assert again.until > grant.until
        report: Any = engine.report().manifolds["store"].worker
        assert config.prefix in report.store
    async with open_etcd_store(config) as opened:
        assert (await opened.leases(0))[A].token == grant.token

    monkeypatch.setenv("ETCD_PASSWORD", "correct horse")
    file.write_text(text.replace(" }\n", ', user = "app", password = "${ETCD_PASSWORD}" }\n', 1))
    assert "correct horse" not in repr(load(file))


def run_etcdctl(url: str, command: str) -> None:
    words = command.replace("user add", "--interactive=false user add").split()
    subprocess.run(
        [binary("etcdctl", "etcd-client"), f"--endpoints={url}", *words],
        input=b"secret\n",
        env={**os.environ, "ETCDCTL_API": "3"},
        check=True,
    )


@pytest.mark.full
async def test_who_may_read_and_write_below_the_prefix_needs_no_more(tmp_path: Path) -> None:
    """The commands are the guide's."""
    page = (DOCS / "howto" / "several-machines.md").read_text(encoding="utf-8")
    commands = re.findall(r"^  \$ etcdctl (.*)$", page, re.MULTILINE)
    assert len(commands) > 4
    with Cluster(tmp_path) as cluster:
        cluster.start()
        cluster.wait_healthy()
        for command in commands:
            run_etcdctl(cluster.urls[0], command)
        config = EtcdConfig(
            endpoints=tuple(cluster.urls), user="reporter", password="secret", timeout=BOUND
        )
        async with open_etcd_store(config) as store:
            for key in (A, A._replace(name="b")):
                await store.claim(key, Request("me", 60), NOW)
                await store.extend(key, Request("me", 60), NOW)
                await store.pin(key, "upgrade", NOW)
                await store.unpin(key, "upgrade", NOW)
            await store.revoke(A, "me", NOW)
            assert len(await store.leases(NOW)) == 1
            assert await store.expire(NOW) == 0
        elsewhere = attrs.evolve(config, prefix="/elsewhere/")
        with pytest.raises(EtcdRefused, match="give the user a role"):
            async with open_etcd_store(elsewhere):
                pass


@pytest.mark.full
async def test_it_shows_a_certificate_to_an_etcd_that_wants_one(tmp_path: Path) -> None:
    cert, private = certificate(tmp_path)
    wants = ["--client-cert-auth", f"--trusted-ca-file={cert}"]
    with Cluster(tmp_path, options=wants, tls=(cert, private)) as cluster:
        cluster.start()
        trusting = EtcdConfig(endpoints=tuple(cluster.urls), ca_file=cert, timeout=BOUND)
        showing = attrs.evolve(trusting, cert_file=cert, key_file=private)
        with trio.fail_after(BOUND):
            while True:
                try:
                    async with open_etcd_store(showing) as store:
                        await store.claim(A, Request("me", 60), NOW)
                        break
                except EtcdUnavailable:  # it does not listen yet
                    await trio.sleep(0.02)
        with pytest.raises(EtcdUnavailable):
            async with open_etcd_store(trusting):
                pass


async def test_a_store_whose_etcd_cannot_be_reached_is_not_opened() -> None:
    with closing(Port()) as port:  # nobody listens there
        config = EtcdConfig(endpoints=(f"http://127.0.0.1:{port.number}",))
        with pytest.raises(EtcdUnavailable, match="Check that the endpoints are right"):
            async with open_etcd_store(config):
                pass


@pytest.mark.parametrize(
    "fields, problem",
    [
        ({"endpoints": ()}, "endpoints must name one"),
        ({"endpoints": ("10.0.0.1:2379",)}, "endpoints must be URLs like"),
        ({"prefix": "/leases"}, 'prefix must end with a "/"'),
        ({"prefix": "/leases//"}, 'prefix must have no "//"'),
        ({"password": "secret"}, "user must be named"),
        ({"key_file": Path("key.pem")}, "cert_file must be named"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": float("inf")}, "timeout must be"),
    ],
)
def test_a_config_says_which_field_is_wrong(fields: Mapping[str, Any], problem: str) -> None:
    good: dict[str, Any] = {"endpoints": ("http://10.0.0.1:2379",)}
    EtcdConfig(**good)
    with pytest.raises(ValueError, match=problem):
        EtcdConfig(**{**good, **fields})


def test_what_is_usual() -> None:
    config = EtcdConfig(endpoints=("http://10.0.0.1:2379",))

    assert config.prefix == "/trioworker/leases/"
    assert config.timeout == 2.0
    assert (config.user, config.password, config.ca_file) == ("", "", None)
