"""The client of etcd: what a real server does, with what JSON hides; and servers that fail."""

import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from tests.services.etcd import Cluster, Member, certificate
from tests.services.process import BOUND, Port
from trioworker.agent import Mask
from trioworker.backends import etcd as backend
from trioworker.backends.etcd import (
    Client,
    Compacted,
    EtcdRefused,
    EtcdUnavailable,
    LeaseLost,
    TxnResult,
    absent,
    delete,
    nested,
    present,
    put,
    read,
    unchanged,
)

open_etcd = partial(backend.open_etcd, timeout=BOUND)  # machines may be slow

Handler = Callable[[trio.SocketStream], Awaitable[None]]


@pytest.fixture
async def client(etcd: Member) -> AsyncGenerator[Client]:
    async with open_etcd([etcd.url]) as client:
        yield client


@pytest.fixture
def key(tmp_path: Path) -> bytes:
    """The beginning of all keys of a test."""
    return f"{tmp_path}/".encode()


# -- what a real one does --------------------------------------------------------------------------


async def test_what_was_put_is_read(client: Client, key: bytes) -> None:
    value = bytes(range(256))
    done = await client.txn([], [put(key + b"a", value), put(key + b"b", b"")])
    a, b = await client.read(key, prefix=True)

    assert (a.key, a.value, a.lease) == (key + b"a", value, 0)
    assert (b.key, b.value) == (key + b"b", b"")
    assert a.create_revision == a.mod_revision == b.mod_revision == done.revision
    assert await client.read(key + b"a") == [a]
    assert await client.read(key, prefix=True, limit=1) == [a]
    assert await client.read(key + b"c") == []


async def test_each_operation_tells_what_it_gave(client: Client, key: bytes) -> None:
    await client.txn([], [put(key + b"a", b"1")])
    [kv] = await client.read(key + b"a")
    done = await client.txn(
        [present(key + b"a"), absent(key + b"b"), unchanged(kv)],
        [
            read(key, prefix=True),
            put(key + b"b", b"2"),
            nested([absent(key + b"a")], [], [delete(key + b"a", prefix=True)]),
        ],
    )

    assert done == TxnResult(True, kv.mod_revision + 1, ([kv], 0, TxnResult(False, 0, (1,))))


async def test_a_comparison_that_failed_is_not_there_at_all(client: Client, key: bytes) -> None:
    """``succeeded`` is omitted if it is false."""
    done = await client.txn([present(key)], [put(key, b"")], [read(key)])

    assert (done.succeeded, done.results) == (False, ([],))


@pytest.mark.parametrize("prefix", [False, True])
async def test_a_key_is_there_or_not(client: Client, key: bytes, *, prefix: bool) -> None:
    name = key if prefix else key + b"a"
    for is_there in (False, True):
        assert (await client.txn([absent(name, prefix=prefix)], [])).succeeded is not is_there
        assert (await client.txn([present(name, prefix=prefix)], [])).succeeded is is_there
        await client.txn([], [put(key + b"a", b""), put(key + b"b", b"")])


async def test_what_was_written_again_or_deleted_is_changed(client: Client, key: bytes) -> None:
    await client.txn([], [put(key, b"same")])
    [kv] = await client.read(key)
    assert (await client.txn([unchanged(kv)], [put(key, b"same")])).succeeded
    assert not (await client.txn([unchanged(kv)], [delete(key)])).succeeded
    [kv] = await client.read(key)
    assert (await client.txn([unchanged(kv)], [delete(key)])).succeeded
    assert not (await client.txn([unchanged(kv)], [])).succeeded


async def test_a_lease_that_is_over_took_its_keys_along(client: Client, key: bytes) -> None:
    lease = await client.grant(60)
    assert lease > 2**53, "a number that JSON's would not do for"
    await client.txn([], [put(key, b"", lease=lease)])
    [kv] = await client.read(key)
    assert kv.lease == lease
    assert await client.keep_alive(lease) == 60

    await client.revoke(lease)
    assert await client.read(key) == []


async def test_that_a_dead_lease_is_kept_alive_is_answered_with_200_and_means_lost(
    client: Client,
) -> None:
    lease = await client.grant(60)
    await client.revoke(lease)
    with pytest.raises(LeaseLost, match=f"{lease} is over"):
        await client.keep_alive(lease)
    await client.revoke(lease)  # it is over, as was wanted


async def test_an_error_is_a_4xx_with_grpcs_code_and_says_where_and_what_now(
    client: Client, etcd: Member, key: bytes
) -> None:
    with pytest.raises(EtcdRefused, match="requested lease not found") as info:
        await client.txn([], [put(key, b"", lease=7)])
    assert info.value.code == 5

    with pytest.raises(EtcdRefused) as info:
        await client.call("/v3/no/such", {})
    assert str(info.value).startswith(f"etcd at {etcd.url}: ")
    assert "it must be etcd 3.4 to 3.7" in str(info.value)


async def test_a_watch_tells_what_happens_in_order(client: Client, key: bytes) -> None:
    """``type`` is omitted if it is PUT."""
    async with client.watch(key, prefix=True) as watch:
        first = await client.txn([], [put(key + b"a", b"1"), put(key + b"b", b"2")])
        last = await client.txn([], [delete(key + b"a")])
        with trio.fail_after(BOUND):
            told = [await anext(watch), await anext(watch)]

    assert watch.revision < first.revision
    flat = [(one.is_delete, one.kv.key[-1:], one.kv.value) for batch in told for one in batch]
    assert flat == [(False, b"a", b"1"), (False, b"b", b"2"), (True, b"a", b"")]
    assert told[-1][-1].kv.mod_revision == last.revision


async def test_watches_do_not_hold_up_calls_nor_each_other(client: Client, key: bytes) -> None:
    async with client.watch(key + b"a") as a, client.watch(key + b"b") as b:
        await client.txn([], [put(key + b"b", b"")])
        with trio.fail_after(BOUND):
            assert len(await anext(b)) == 1
            await client.txn([], [put(key + b"a", b"")])
            assert len(await anext(a)) == 1


async def test_a_watch_resumes_where_it_is_told_to(client: Client, key: bytes) -> None:
    first = await client.txn([], [put(key, b"1")])
    await client.txn([], [put(key, b"2")])
    async with client.watch(key, since=first.revision + 1) as watch:
        with trio.fail_after(BOUND):
            [event] = await anext(watch)

    assert event.kv.value == b"2"


async def test_a_watch_from_what_is_forgotten_says_since_when_it_is(
    client: Client, key: bytes
) -> None:
    first = await client.txn([], [put(key, b"1")])
    last = await client.txn([], [put(key, b"2")])
    await client.call("/v3/kv/compaction", {"revision": str(last.revision)})
    with trio.fail_after(BOUND), pytest.raises(Compacted, match="read again") as info:
        async with client.watch(key, since=first.revision) as watch:
            await anext(watch)

    assert info.value.revision == last.revision


async def test_a_connection_is_used_again_and_by_one_call_at_a_time(
    client: Client, key: bytes
) -> None:
    for _ in range(3):
        await client.read(key)
        assert len(client._kept) == 1
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(client.read, key)
    assert len(client._kept) == 8


async def test_a_call_that_is_cancelled_takes_its_connection_along(
    client: Client, key: bytes
) -> None:
    await client.read(key)
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.read(key)
    assert scope.cancelled_caught
    assert client._kept == []
    assert await client.read(key) == []


async def test_who_is_cancelled_closes_all_connections(etcd: Member) -> None:
    sockets: list[trio.socket.SocketType] = []
    with trio.CancelScope() as scope:
        async with open_etcd([etcd.url]) as client:
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(client.read, b"a")
            sockets += [cast("trio.SocketStream", one._stream).socket for one in client._kept]
            scope.cancel()
    assert len(sockets) > 1
    assert {one.fileno() for one in sockets} == {-1}


async def test_a_closed_client_does_nothing(etcd: Member) -> None:
    async with open_etcd([etcd.url + "/"]) as client:
        await client.read(b"a")
    assert repr(client) == f"<etcd Client of {etcd.url} closed>"
    with pytest.raises(trio.ClosedResourceError):
        await client.read(b"a")


# -- servers that fail -----------------------------------------------------------------------------


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[str]:
    """Run a server that is no etcd, for the length of the block."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def hangs_up(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def babbles(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"220 mail.example.net ESMTP\r\n")


def whole(status: str, body: object) -> bytes:
    """Return a whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def answers(status: str, body: object) -> Handler:
    """Return what answers every call so."""

    async def handler(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(whole(status, body))

    return handler


NO_LEADER = {"error": "etcdserver: no leader", "message": "etcdserver: no leader", "code": 14}
FAILING = {
    "silent": silent,
    "hangs_up": hangs_up,
    "babbles": babbles,
    "no_leader": answers("503 Service Unavailable", NO_LEADER),
}


@pytest.mark.parametrize("how", FAILING)
async def test_what_can_be_repeated_is_asked_of_the_next(
    how: str, etcd: Member, key: bytes
) -> None:
    async with (
        serving(FAILING[how]) as url,
        open_etcd([url, etcd.url], timeout=0.3 if how == "silent" else BOUND) as client,
    ):
        assert await client.read(key) == []
        await client.txn([], [put(key, b"")])  # and that one is asked first from now on


@pytest.mark.parametrize("how", FAILING)
async def test_a_transaction_is_asked_of_one_as_it_may_have_been_done(
    how: str, etcd: Member, key: bytes
) -> None:
    async with (
        serving(FAILING[how]) as url,
        open_etcd([url, etcd.url], timeout=0.3 if how == "silent" else BOUND) as client,
    ):
        with pytest.raises(EtcdUnavailable, match=url):
            await client.txn([], [put(key, b"")])
        await client.txn([absent(key)], [put(key, b"")])


async def test_what_was_never_sent_is_asked_of_the_next(etcd: Member, key: bytes) -> None:
    with closing(Port()) as port:  # nobody listens there
        async with open_etcd([f"http://127.0.0.1:{port.number}", etcd.url]) as client:
            assert (await client.txn([absent(key)], [put(key, b"")])).succeeded


async def test_if_none_can_do_it_each_says_why() -> None:
    with closing(Port()) as port:
        async with (
            serving(hangs_up) as first,
            open_etcd([first, f"http://127.0.0.1:{port.number}"]) as client,
        ):
            with pytest.raises(EtcdUnavailable) as info:
                await client.read(b"a")
    told = str(info.value)
    assert f"{first}: it" in told
    assert f"127.0.0.1:{port.number}: " in told
    assert "refused" in told
    assert "most of its members run" in told


@pytest.mark.full
async def test_a_call_of_a_member_that_was_started_again_goes_over_a_new_connection(
    tmp_path: Path, key: bytes
) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start()
        cluster.wait_healthy()
        [member] = cluster.members
        async with open_etcd(cluster.urls) as client:
            await client.txn([], [put(key, b"1")])
            member.kill()
            member.start()
            cluster.wait_healthy()
            assert (await client.txn([present(key)], [put(key, b"2")])).succeeded
            async with client.watch(key) as watch:
                member.kill()
                with trio.fail_after(BOUND), pytest.raises(EtcdUnavailable, match="watching"):
                    await anext(watch)


@pytest.mark.parametrize(
    "status, body, code, message",
    [
        (
            "404 Not Found",
            {"error": "Not Found", "message": "Not Found", "code": 5},
            5,
            "Not Found",
        ),
        ("404 Not Found", {"code": 5, "message": "lost", "details": []}, 5, "lost"),
        ("400 Bad", {"error": {"grpc_code": 3, "http_code": 400, "message": "odd"}}, 3, "odd"),
        ("400 Bad", {"error": {"code": 3, "message": "odd", "details": []}}, 3, "odd"),
        ("200 OK", {"error": {"code": 3, "message": "odd"}}, 3, "odd"),
        ("500 Oh", {}, 2, "{}"),
        ("404 Not Found", b"<html>", 12, "status 404 that is not etcd's"),
        ("200 OK", [], 12, "that is not etcd's"),
    ],
)
async def test_an_error_is_understood_of_whatever_version(
    status: str, body: Any, code: int, message: str
) -> None:
    async with serving(answers(status, body)) as url, open_etcd([url]) as client:
        with pytest.raises(EtcdRefused, match=message) as info:
            await client.read(b"a")
    assert info.value.code == code


async def test_an_error_that_is_shown_as_it_came_is_marked_where_it_is_cut_off() -> None:
    """So that a mask knows a secret by its beginning, which stands before the mark."""
    secret = "s3cret-" * 10
    body = json.dumps({"odd": "x" * 150 + secret})
    async with serving(answers("500 Oh", body.encode())) as url, open_etcd([url]) as client:
        with pytest.raises(EtcdRefused) as info:
            await client.read(b"a")
    assert info.value.message == body[:199] + "…"
    assert "s3cret" not in Mask([("TOKEN", secret)])(str(info.value))


async def test_too_many_requests_pass_and_too_much_data_does_not() -> None:
    for message, kind in [
        ("etcdserver: too many requests", EtcdUnavailable),
        ("etcdserver: mvcc: database space exceeded", EtcdRefused),
    ]:
        body = {"error": message, "message": message, "code": 8}
        async with serving(answers("429 Oh", body)) as url, open_etcd([url]) as client:
            with pytest.raises(kind, match=message):
                await client.read(b"a")


@pytest.mark.parametrize(
    "url", ["", "10.0.0.1:2379", "ftp://a", "http://", "http://a:b", "http://a/v3", "http://u@a"]
)
async def test_what_is_no_endpoint_is_refused_with_the_way_out(url: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        async with open_etcd([url]):
            pass


async def test_there_must_be_an_endpoint() -> None:
    with pytest.raises(ValueError, match="name one"):
        async with open_etcd([]):
            pass


# -- who may ---------------------------------------------------------------------------------------


@pytest.mark.full
async def test_a_user_logs_in_and_again_when_its_token_is_no_good_any_more(
    tmp_path: Path, key: bytes
) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start()
        cluster.wait_healthy()
        async with open_etcd(cluster.urls) as client:
            for path, body in [
                ("user/add", {"name": "root", "password": "secret"}),
                ("role/add", {"name": "root"}),
                ("user/grant", {"user": "root", "role": "root"}),
                ("user/add", {"name": "app", "password": "word"}),
                ("enable", {}),
            ]:
                await client.call(f"/v3/auth/{path}", body)
            with pytest.raises(EtcdRefused, match="user name is empty"):
                await client.read(key)
        async with open_etcd(cluster.urls, user="root", password="wrong") as client:
            with pytest.raises(EtcdRefused, match="check user and password"):
                await client.read(key)
        async with open_etcd(cluster.urls, user="app", password="word") as client:
            with pytest.raises(EtcdRefused, match="permission denied") as info:
                await client.txn([], [put(key, b"")])
            assert "give the user a role" in str(info.value)
            with pytest.raises(EtcdRefused, match="permission denied"):
                async with client.watch(key):
                    pass
        async with open_etcd(cluster.urls, user="root", password="secret") as client:
            await client.txn([], [put(key, b"")])
            first = client._token
            assert first
            await client.call("/v3/auth/role/add", {"name": "other"})  # the token is too old now
            await client.txn([present(key)], [put(key, b"")])
            client._token = "no.1"
            async with client.watch(key):
                assert client._token not in {"", "no.1"}
            assert "secret" not in repr(client)
        async with (
            serving(hangs_up) as url,
            open_etcd([url, *cluster.urls], user="root", password="secret") as client,
        ):
            await client.txn([], [put(key, b"")])  # only the login was sent to the first


async def test_a_token_that_is_older_than_a_change_of_the_users_is_renewed() -> None:
    """So it is with tokens that are signed; it is an invalid argument, for etcd."""
    asked: list[tuple[str, str]] = []

    async def handler(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some():
            path = data.split()[1].decode()
            token = data.partition(b"Authorization: ")[2].partition(b"\r\n")[0].decode()
            asked.append((path, token))
            old = {"error": "", "message": "etcdserver: revision of auth store is old", "code": 3}
            is_old = path == "/v3/kv/range" and token == "1"
            answer = old if is_old else {"token": str(len(asked))}
            await stream.send_all(whole("400 Bad Request" if is_old else "200 OK", answer))

    async with serving(handler) as url, open_etcd([url], user="me") as client:
        assert await client.read(b"a") == []
    login = ("/v3/auth/authenticate", "")
    assert asked == [login, ("/v3/kv/range", "1"), login, ("/v3/kv/range", "3")]


@pytest.mark.full
async def test_a_user_of_an_etcd_without_users_is_told(etcd: Member) -> None:
    async with open_etcd([etcd.url], user="root", password="secret") as client:
        with pytest.raises(EtcdRefused, match="name no user here"):
            await client.read(b"a")


@pytest.mark.full
async def test_it_goes_over_tls_and_only_to_whom_it_trusts(tmp_path: Path, key: bytes) -> None:
    cert, private = certificate(tmp_path)
    with Cluster(tmp_path, tls=(cert, private)) as cluster:
        cluster.start()
        cluster.wait_healthy()
        async with open_etcd(cluster.urls) as client:
            with pytest.raises(EtcdUnavailable, match="certificate verify failed"):
                await client.read(key)
        trusting = ssl.create_default_context(cafile=cert)
        async with open_etcd(cluster.urls, ssl_context=trusting) as client:
            for value in (b"1", b"2"):
                await client.txn([], [put(key, value)])
            assert len(client._kept) == 1
            async with client.watch(key, since=1) as watch:
                assert (await anext(watch))[0].kv.value == b"1"


@pytest.mark.full
async def test_a_watch_of_a_member_that_is_left_alone_ends(tmp_path: Path, key: bytes) -> None:
    with Cluster(tmp_path, size=3) as cluster:
        cluster.start()
        cluster.wait_healthy()
        left, *others = cluster.members
        async with open_etcd([left.url]) as client, client.watch(key) as watch:
            for member in others:
                member.kill()
            with trio.fail_after(BOUND), pytest.raises(EtcdUnavailable, match="watching"):
                await anext(watch)
