"""Ten thousand requests, each wrong in some way: none moves the engine, all are done with."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from trioworker import Engine, Manifold

from .asking import Asker, running, serve

TARGETS = [b"/restart/db", b"/hold/db", b"/drain", b"/report", b"/explain/db", b"/", b"/events"]
HEADERS = b"Host: localhost\r\nContent-Length: 0\r\n"
ODD = [0, 7, 9, 11, 13, 27, 127, 128, 255]

Wrong = Callable[[random.Random], bytes]


def request(rng: random.Random, **parts: bytes) -> bytes:
    """Return a request that would restart something, were it not for `parts`."""
    method = parts.get("method", b"POST")
    target = parts.get("target", rng.choice(TARGETS[:3]))
    version = parts.get("version", b"HTTP/1.1")
    headers = parts.get("headers", HEADERS) + parts.get("more", b"")
    return (
        method
        + b" "
        + target
        + b" "
        + version
        + b"\r\n"
        + headers
        + b"\r\n"
        + parts.get("body", b"")
    )


def cut(rng: random.Random) -> bytes:
    whole = request(rng)
    return whole[: rng.randrange(len(whole) - 1)]


def noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 300))


def lines_of_noise(rng: random.Random) -> bytes:
    return b"\r\n".join(rng.randbytes(rng.randrange(20)) for _ in range(10)) + b"\r\n\r\n"


def odd_byte_in_the_first_line(rng: random.Random) -> bytes:
    whole = bytearray(request(rng))
    # Behind the method; instead of the space before the target it might only be another method.
    whole.insert(rng.randrange(6, whole.index(b"\r\n")), rng.choice(ODD))
    return bytes(whole)


def odd_byte_in_a_name(rng: random.Random) -> bytes:
    odd = bytes([rng.choice(ODD)])
    return request(rng, more=b"X" + odd + b"Y: 1\r\n")


def no_colon(rng: random.Random) -> bytes:
    return request(rng, more=rng.randbytes(8).hex().encode() + b"\r\n")


def not_this_version(rng: random.Random) -> bytes:
    return request(
        rng, version=rng.choice([b"HTTP/2.0", b"HTTP/1", b"HTTP/9.9", b"HTCPCP/1.0", b""])
    )


def lengths(rng: random.Random) -> bytes:
    wrong = [b"-1", b"1e3", b"0x10", b"9" * 30, b"1, 2", b"\xb2", b"+1", b"", b"70000"]
    return request(rng, headers=b"Host: localhost\r\nContent-Length: %s\r\n" % rng.choice(wrong))


def two_lengths(rng: random.Random) -> bytes:
    return request(rng, more=b"Content-Length: %d\r\n" % rng.randrange(1, 100), body=b"x" * 100)


def chunks(rng: random.Random) -> bytes:
    wrong = [b"zz\r\n", b"-1\r\n", b"5\r\nabc\r\n0\r\n\r\n", b"f" * 30 + b"\r\n", b"1\r\nabc"]
    headers = b"Host: localhost\r\nTransfer-Encoding: chunked\r\n"
    return request(rng, headers=headers, body=rng.choice(wrong))


def encodings(rng: random.Random) -> bytes:
    wrong = [b"gzip", b"identity", b"chunked, gzip", b"x" * 50]
    more = b"Transfer-Encoding: %s\r\n" % rng.choice(wrong)
    return request(rng, headers=b"Host: localhost\r\n" + more)


def hosts(rng: random.Random) -> bytes:
    wrong = [
        b"Host: evil.example\r\n",
        b"",
        b"Host: \r\n",
        b"Host: localhost\r\nHost: localhost\r\n",
    ]
    return request(rng, headers=rng.choice(wrong) + b"Content-Length: 0\r\n")


def origins(rng: random.Random) -> bytes:
    wrong = [b"null", b"http://evil.example", b"https://localhost", b"http://localhost:1", b""]
    return request(rng, more=b"Origin: %s\r\n" % rng.choice(wrong))


def methods(rng: random.Random) -> bytes:
    wrong = [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"post", b"P OST"]
    return request(rng, method=rng.choice(wrong))


def targets(rng: random.Random) -> bytes:
    wrong = [
        b"*",
        b"http://localhost/restart/db",
        b"restart/db",
        b"/restart/%ff",
        b"/restart/db/",
        b"//restart/db",
        b"/restart%2Fdb",
        b"/RESTART/db",
        b"/restart/../restart/db",
        b"/restart/%00db",
        b"/restart/" + b"d" * 2000,
        b"/drain?" + b"a=1&" * 200,
        b"/log-level?level=%ff",
        b"/" * 500,
    ]
    return request(rng, target=rng.choice(wrong))


def too_large(rng: random.Random) -> bytes:
    return request(rng, more=b"X: " + b"x" * 17_000 + b"\r\n")


def many_headers(rng: random.Random) -> bytes:
    return request(rng, more=b"".join(b"X-%d: 1\r\n" % n for n in range(2000)))


def folded(rng: random.Random) -> bytes:
    return request(rng, headers=b" Host: localhost\r\n" + HEADERS)


def another_protocol(rng: random.Random) -> bytes:
    return rng.choice(
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"\x00" * 100,
        ]
    )


WRONG: list[Wrong] = [
    cut,
    noise,
    lines_of_noise,
    odd_byte_in_the_first_line,
    odd_byte_in_a_name,
    no_colon,
    not_this_version,
    lengths,
    two_lengths,
    chunks,
    encodings,
    hosts,
    origins,
    methods,
    targets,
    folded,
    another_protocol,
]
SELDOM: list[Wrong] = [too_large, many_headers]


def corpus(count: int) -> Iterator[bytes]:
    rng = random.Random(5)
    for n in range(count):
        yield rng.choice(SELDOM if n % 100 == 0 else WRONG)(rng)


@pytest.mark.parametrize(
    "count", [500, pytest.param(10_000, marks=pytest.mark.full, id="ten thousand")]
)
async def test_malformed_requests_do_not_move_the_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    async with running(tmp_path, {"db": Manifold(serve)}) as (engine, asker):
        await engine.wait_settled()
        before = standing(engine)
        with engine.events() as events, trio.fail_after(300):
            requests = corpus(count)
            statuses: list[int] = []
            async with trio.open_nursery() as nursery:
                for _ in range(16):
                    nursery.start_soon(send_all, asker, requests, statuses)
            assert events.take() == []
        assert standing(engine) == before
        assert (await asker.get("/healthz")).status == 200

    assert len(statuses) > count * 0.9  # some say nothing, and hang up
    assert {status // 100 for status in statuses} <= {2, 4, 5}
    assert not {202, 500} & set(statuses)
    assert caplog.records == []


def standing(engine: Engine) -> dict[str, tuple[str, int]]:
    return {name: (one.state, one.starts) for name, one in engine.report().manifolds.items()}


async def send_all(asker: Asker, requests: Iterator[bytes], statuses: list[int]) -> None:
    for data in requests:
        try:
            async with await asker.connect() as stream:
                await stream.send_all(data)
                await stream.send_eof()
                answer = b"".join([bytes(part) async for part in stream])
        except trio.BrokenResourceError:
            continue  # it was refused before all of it was sent
        if answer:
            assert answer.startswith(b"HTTP/1.1 "), data
            statuses.append(int(answer[9:12]))
