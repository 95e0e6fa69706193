"""What is PostgreSQL's own about leases that are kept there; with a real server and its clock."""

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.pages import BLOCK, DOCS
from tests.services.postgres import PASSWORD, Instance
from tests.workers.coordination.process import BOUND, ROOT
from tests.workers.coordination.taking import Taker
from trioworker import Engine, MisuseError, open_worker
from trioworker.agent import load
from trioworker.backends.postgres import Database, open_database
from trioworker.workers.coordination import leaseexpiry
from trioworker.workers.coordination.lease import (
    Busy,
    ClaimDenied,
    Grant,
    Held,
    Info,
    Invalid,
    Key,
    Leases,
    LeaseTimeout,
    Manager,
    PostgresConfig,
    Request,
    Store,
    _manager,
    manifold,
    open_postgres_store,
    postgres_store,
)
from trioworker.workers.coordination.lease._postgres import _lock

A = Key("singular", "", "a")
B = A._replace(name="b")
ME, YOU = Request("me", 60), Request("you", 60)
BRIEF = Request("me", 0.05)
T = 1_700_000_000.0
DBNAME = "emptied"
CUT_OFF = (
    f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{DBNAME}'"
)
READ_ONLY = {"options": "-c default_transaction_read_only=on"}
FENCE = "SELECT 1 FROM trioworker.lease WHERE token = %s FOR KEY SHARE"


@pytest.fixture
def conninfo(postgres: Instance) -> str:
    return postgres.emptied()


@pytest.fixture
async def store(conninfo: str) -> AsyncGenerator[Store]:
    async with open_postgres_store(PostgresConfig(conninfo=conninfo, timeout=20)) as store:
        yield store


@pytest.fixture
async def database(conninfo: str, store: Store) -> AsyncGenerator[Database]:
    """Another client of the database that the store is in."""
    async with open_database(conninfo, timeout=20) as database:
        yield database


async def until_waiting(conninfo: str) -> None:
    """Wait until somebody waits for a lock in the database."""
    sql = (
        "SELECT 1 FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with trio.fail_after(BOUND):
        async with open_database(conninfo) as database:
            while not await database.query(sql):  # noqa: ASYNC110 - the server knows
                await trio.sleep(0.01)


async def until_free(store: Store, key: Key = A) -> None:
    with trio.fail_after(BOUND):
        while await store.leases(T, key):  # noqa: ASYNC110 - the server knows
            await trio.sleep(0.01)


# -- time ------------------------------------------------------------------------------------------


async def test_clocks_that_are_hours_apart_exclude_each_other(store: Store) -> None:
    granted = await store.claim(A, ME, T)
    for now in (T - 7200, T + 7200):
        with pytest.raises(Held):
            await store.claim(A, YOU, now)
        [info] = (await store.leases(now, A)).values()
        assert info.token == granted.token
        assert now + 59 - BOUND < info.expiry <= now + 60  # told by the clock of who asks
    assert await store.expire(T + 7200) == 0


async def test_the_server_ends_a_term_when_it_is_over(store: Store) -> None:
    began = trio.current_time()
    first = await store.claim(A, Request("me", 0.3), T)
    await until_free(store)
    assert trio.current_time() - began >= 0.3
    with pytest.raises(Invalid):
        await store.extend(A, ME, T)
    assert (await store.claim(A, YOU, T)).token > first.token


# -- tokens ----------------------------------------------------------------------------------------


async def test_who_is_granted_later_has_the_greater_token_also_if_it_came_earlier(
    conninfo: str, store: Store, database: Database
) -> None:
    """It draws its number when it is its turn: another's lease may come, go and be deleted."""
    later: list[Info] = []

    async def claim() -> None:
        later.append(await store.claim(A, YOU, T))

    async with trio.open_nursery() as nursery, database.transaction() as transaction:
        await transaction.execute("SELECT pg_advisory_xact_lock(%s)", [_lock(*A)])
        nursery.start_soon(claim)
        await until_waiting(conninfo)
        [(drawn,)] = await transaction.execute(
            "SELECT nextval(pg_get_serial_sequence('trioworker.lease', 'token'))"
        )
    assert later[0].token > drawn


async def test_of_two_clients_that_race_one_at_a_time_has_it(conninfo: str) -> None:
    config = PostgresConfig(conninfo=conninfo, timeout=20)
    tokens: list[int] = []
    async with open_postgres_store(config) as one, open_postgres_store(config) as other:

        async def race(store: Store, holder: str) -> None:
            while len(tokens) < 30:
                with suppress(Held):
                    tokens.append((await store.claim(A, Request(holder, 60), T)).token)
                    assert [info.holder for info in (await store.leases(T)).values()] == [holder]
                    await store.revoke(A, holder, T)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(race, (one, other)[number % 2], f"holder-{number}")
    assert tokens == sorted(set(tokens))


# -- fencing ---------------------------------------------------------------------------------------


@pytest.fixture
async def book(database: Database) -> Any:
    """The example of the page."""
    text = (DOCS / "coordination.md").read_text(encoding="utf-8")
    [block] = [block[1] for block in BLOCK.finditer(text) if "KEY SHARE" in block[1]]
    shown: dict[str, Any] = {}
    exec(block, shown)
    await database.query("CREATE TABLE orders (number integer)")
    return shown


async def orders(database: Database) -> list[int]:
    return [number for (number,) in await database.query("SELECT number FROM orders ORDER BY 1")]


async def test_who_was_succeeded_stores_nothing(
    store: Store, database: Database, book: dict[str, Any]
) -> None:
    first = await store.claim(A, BRIEF, T)
    await book["book"](database, first.token, 1)
    await until_free(store)
    await book["book"](database, first.token, 2)  # nobody else has it yet
    second = await store.claim(A, YOU, T)
    with pytest.raises(book["Deposed"]):
        await book["book"](database, first.token, 3)
    await book["book"](database, second.token, 4)
    await store.revoke(A, "you", T)
    with pytest.raises(book["Deposed"]):
        await book["book"](database, second.token, 5)

    assert await orders(database) == [1, 2, 4]


@pytest.mark.parametrize("how", ["claim", "revoke"])
async def test_nobody_succeeds_who_is_about_to_store_something(
    conninfo: str, store: Store, database: Database, how: str
) -> None:
    held = await store.claim(A, ME if how == "revoke" else BRIEF, T)
    done: list[str] = []

    async def succeed() -> None:
        await (store.claim(A, YOU, T) if how == "claim" else store.revoke(A, "me", T))
        done.append("succeeded")

    if how == "claim":
        await until_free(store)
    async with trio.open_nursery() as nursery, database.transaction() as transaction:
        assert await transaction.execute(FENCE, [held.token])
        assert await store.expire(T) == 0  # the janitor does not wait
        nursery.start_soon(succeed)
        await until_waiting(conninfo)
        done.append("stored")
    assert done == ["stored", "succeeded"]


async def test_who_stores_something_does_not_hold_up_its_own_extension(
    store: Store, database: Database
) -> None:
    held = await store.claim(A, ME, T)
    async with database.transaction() as transaction:
        assert await transaction.execute(FENCE, [held.token])
        assert (await store.extend(A, ME, T)).token == held.token
        await store.pin(A, "upgrade", T)


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.full
async def test_a_lease_that_is_locked_for_too_long_is_busy_and_others_are_not(
    conninfo: str, store: Store, database: Database
) -> None:
    await store.claim(A, BRIEF, T)
    await until_free(store)
    config = PostgresConfig(conninfo=conninfo, timeout=2)
    async with open_postgres_store(config) as hurried, database.transaction() as transaction:
        await transaction.execute("SELECT 1 FROM trioworker.lease FOR KEY SHARE")
        with pytest.raises(Busy, match="statement timeout"):
            await hurried.claim(A, YOU, T)
        await hurried.claim(B, YOU, T)
    assert set(await store.leases(T)) == {B}


async def test_a_claim_that_is_cancelled_has_not_happened_and_the_store_goes_on(
    store: Store, database: Database
) -> None:
    await store.claim(A, BRIEF, T)
    await until_free(store)
    async with database.transaction() as transaction:
        await transaction.execute("SELECT 1 FROM trioworker.lease FOR KEY SHARE")
        with trio.move_on_after(0.1) as scope:
            await store.claim(A, YOU, T)
        assert scope.cancelled_caught
    assert await store.leases(T) == {}
    await store.claim(A, YOU, T)


@pytest.mark.full
async def test_while_the_server_is_restarted_a_manager_tries_again() -> None:
    with Instance() as instance:
        instance.start()
        config = PostgresConfig(conninfo=instance.conninfo())
        async with (
            open_postgres_store(config) as store,
            open_worker(Manager(store)) as manager,
            open_worker(leaseexpiry.LeaseExpiry(store)),
        ):
            claimer, granted = manager.claimer("singular"), list[Grant]()
            granted.append(await claimer.claim("a", "me", 60))

            async def claim() -> None:
                while len(granted) == 1:
                    with suppress(LeaseTimeout):  # starting may take longer than ten attempts
                        granted.append(await claimer.claim("a", "me", 60))

            instance.stop()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(claim)
                await trio.sleep(0.1)
                assert manager.report().claims == 1
                instance.start()
            assert granted[0].token == granted[1].token
            with pytest.raises(ClaimDenied):
                await claimer.claim("a", "you", 60)


@pytest.mark.full
async def test_who_is_stopped_in_a_transaction_is_thrown_out_and_others_go_on(
    conninfo: str, store: Store
) -> None:
    program = f"""
import sys, trio
from trioworker.backends.postgres import DatabaseLost, open_database
async def main():
    async with open_database({conninfo!r}, timeout=2) as database:
        try:
            async with database.transaction() as transaction:
                await transaction.execute("SELECT 1 FROM trioworker.lease FOR UPDATE")
                print("inside", flush=True)
                sys.stdin.readline()
                await transaction.execute("UPDATE trioworker.lease SET holder = 'late'")
        except DatabaseLost as error:
            print("lost", error, flush=True)
trio.run(main)
"""
    await store.claim(A, BRIEF, T)
    await until_free(store)
    process = subprocess.Popen(  # noqa: ASYNC220 - for a moment
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            assert await trio.to_thread.run_sync(process.stdout.readline) == "inside\n"
            process.send_signal(signal.SIGSTOP)
            async with open_worker(Manager(store)) as manager:
                with trio.fail_after(BOUND):
                    await manager.claimer("singular").claim("a", "you", 60)
            process.send_signal(signal.SIGCONT)
            said = await trio.to_thread.run_sync(process.communicate, "go on\n")
        finally:
            process.kill()
    assert said[0].startswith("lost PostgreSQL")
    assert (await store.leases(T))[A].holder == "you"


async def test_who_pins_again_and_again_does_not_fill_the_database(
    store: Store, database: Database
) -> None:
    await store.claim(A, ME, T)
    for _ in range(3):
        await store.pin(A, "upgrade", T)
    assert await database.query("SELECT pins FROM trioworker.lease") == [(["upgrade"],)]


# -- the schema ------------------------------------------------------------------------------------


async def test_many_make_it_at_once(conninfo: str) -> None:
    config = PostgresConfig(conninfo=conninfo, timeout=20, connections=1)
    granted: list[Info] = []

    async def begin(number: int) -> None:
        async with open_postgres_store(config) as store:
            granted.append(await store.claim(A._replace(name=str(number)), ME, T))

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(begin, number)
    assert len({info.token for info in granted}) == 12


async def test_two_schemas_have_nothing_in_common(conninfo: str) -> None:
    async with (
        open_postgres_store(PostgresConfig(conninfo=conninfo, schema="one")) as one,
        open_postgres_store(PostgresConfig(conninfo=conninfo, schema="other")) as other,
    ):
        await one.claim(A, ME, T)
        assert await other.leases(T) == {}
        assert repr(one).startswith('<PostgresStore "one" in <Database PostgreSQL postgres@127.')


@pytest.mark.parametrize(
    "made, difference",
    [
        ("CREATE TABLE {}.lease (name text)", "holder text"),
        ("CREATE VIEW {}.lease AS SELECT 1 AS token", "token integer"),
        ("CREATE TABLE {}.lease (LIKE trioworker.lease)", r"UNIQUE \(namespace, model, name\)"),
    ],
)
async def test_what_is_there_and_is_no_table_of_leases_is_refused_by_name(
    store: Store, database: Database, conninfo: str, made: str, difference: str
) -> None:
    await database.query("CREATE SCHEMA theirs")
    await database.query(made.format("theirs"))
    with pytest.raises(
        MisuseError, match=f'^"theirs"[.]lease in .* is no table of leases .*{difference}'
    ):
        async with open_postgres_store(PostgresConfig(conninfo=conninfo, schema="theirs")):
            pass


async def test_a_database_that_cannot_keep_every_name_is_refused(postgres: Instance) -> None:
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(MisuseError, match=r"LATIN1.* UTF8"):
        async with open_postgres_store(PostgresConfig(conninfo=postgres.conninfo("latin"))):
            pass


@pytest.mark.parametrize("attrs", ["read-write", "any"])
@pytest.mark.parametrize("is_there", [False, True], ids=["new", "used"])
async def test_a_server_that_takes_no_writes_is_refused_with_the_cause_and_the_way_out(
    conninfo: str, attrs: str, *, is_there: bool
) -> None:
    """Such as a standby, or where a role or a database is set so."""
    if is_there:
        async with open_postgres_store(PostgresConfig(conninfo=conninfo)):
            pass
    theirs = make_conninfo(conninfo, target_session_attrs=attrs, **READ_ONLY)
    async with open_worker(Engine()) as engine:
        engine.install("store", postgres_store(PostgresConfig(conninfo=theirs)))
        engine.install("leases", manifold())
        await engine.wait_state("store", "delayed")
        told = str(engine.explain("leases"))
    assert "read-only" in told
    assert "ame the server that takes writes" in told


async def test_a_server_that_takes_no_writes_any_more_is_told_of_with_the_way_out(
    conninfo: str, monkeypatch: pytest.MonkeyPatch, postgres: Instance
) -> None:
    """As that of a standby: nothing is wrong with reading."""
    monkeypatch.setattr(_manager, "ATTEMPTS", 2)
    theirs = make_conninfo(conninfo, target_session_attrs="any")
    async with (
        open_postgres_store(PostgresConfig(conninfo=theirs)) as store,
        open_worker(Manager(store)) as manager,
    ):
        claimer = manager.claimer("singular")
        granted = await claimer.claim("a", "me", 60)
        try:
            postgres.execute(f"ALTER DATABASE {DBNAME} SET default_transaction_read_only = on")
            postgres.execute(CUT_OFF)
            with pytest.raises(LeaseTimeout, match=r"takes no writes: .*Name the server that"):
                await claimer.claim("a", "me", 60)
            assert set(await manager.leases()) == {A}
        finally:
            postgres.execute(f"ALTER DATABASE {DBNAME} RESET default_transaction_read_only")
            postgres.execute(CUT_OFF)
        assert (await claimer.claim("a", "me", 60)).token == granted.token


async def test_a_role_that_may_only_use_the_table_will_do(
    postgres: Instance, store: Store, conninfo: str
) -> None:
    dbname = str(conninfo_to_dict(conninfo)["dbname"])
    role = f"{dbname}_agent"
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'", dbname)
    postgres.execute(f"GRANT USAGE ON SCHEMA trioworker TO {role}", dbname)
    postgres.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON trioworker.lease TO {role}", dbname)
    theirs = PostgresConfig(conninfo=make_conninfo(conninfo, user=role))
    async with open_postgres_store(theirs) as other:
        held = await other.claim(A, BRIEF, T)
        await other.pin(A, "upgrade", T)
        await other.unpin(A, "upgrade", T)
        await until_free(other)
        assert (await other.claim(A, YOU, T)).token > held.token
        await other.revoke(A, "you", T)
        assert await other.expire(T) == 0


# -- the config, and what is shown -----------------------------------------------------------------


async def test_an_agent_file_has_leases_in_postgresql_and_its_password_is_shown_nowhere(
    conninfo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    wing = "trioworker.workers.coordination.lease"
    told = make_conninfo(conninfo, password="SECRET").replace("SECRET", "'${DB_PASSWORD}'")
    file = tmp_path / "agent.toml"
    file.write_text(
        f'[manifolds.store]\nuse = "{wing}:postgres_store"\n'
        f'config = {{ conninfo = "{told}", schema = "agents" }}\n'
        f'[manifolds.leases]\nuse = "{wing}:manifold"\n'
    )
    async with open_worker(load(file).engine()) as engine:
        taker = Taker("leases", Leases)
        engine.install("taker", taker.manifold())
        await engine.wait_state("taker", "started")
        await taker[Leases].claimer("singular").claim("nightly", "me", 60)
        shown = repr(engine.report()) + str(engine.explain("store"))
        assert '"agents" in <Database PostgreSQL postgres@' in shown
    assert PASSWORD not in shown


def test_a_config_does_not_show_its_conninfo() -> None:
    shown = repr(PostgresConfig(conninfo="host=h password=geheim"))
    assert "geheim" not in shown
    assert shown == "PostgresConfig(schema='trioworker', timeout=5.0, connections=4)"


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"conninfo": "geheim"}, "conninfo cannot be read"),
        ({"schema": 'a"; DROP'}, "schema must be a name of small letters"),
        ({"schema": "pg_mine"}, "schema must be a name"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"connections": 0}, "connections must be at least 1"),
    ],
)
def test_a_config_says_which_field_is_wrong(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}") as caught:
        PostgresConfig(**(dict[str, Any](conninfo="") | wrong))
    assert "geheim" not in str(caught.value)


def test_without_psycopg_a_config_is_made_and_its_store_names_the_install_line() -> None:
    program = """
import sys; sys.modules['psycopg'] = None
from trioworker.workers.coordination.lease import PostgresConfig, postgres_store
postgres_store(PostgresConfig(conninfo="what is not read"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert 'needs psycopg: pip install "trioworker[postgres]"' in done.stderr
