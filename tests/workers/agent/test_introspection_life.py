"""It answers while the program starts, hangs and stops, and ends when it should."""

import json
import math
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioworker import Engine, EngineConfig, Getter, Manifold, RestartPolicy, self_manifold
from trioworker.dependency import Inspector
from trioworker.workers.agent.introspection import Config, Masking, Recorder, manifold
from trioworker.workers.agent.introspection._socket import bound_socket

from .asking import PATIENCE, TOKEN, Asker, engine_with, hang, running, serve


async def until(engine: Engine, name: str, *states: str) -> None:
    with trio.fail_after(PATIENCE):
        await engine.wait_state(name, *states)


async def linger(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    """Take for ever to stop by itself."""
    task_status.started()
    await get.wait_stopping()
    await trio.sleep_forever()


SLOW_TO_STOP = Manifold(linger, ask=lambda value: None, grace=math.inf)


# -- while the program starts ----


async def test_it_answers_while_others_start(tmp_path: Path) -> None:
    async with running(tmp_path, {"web": Manifold(hang)}) as (_, asker):
        answer = await asker.get("/explain/web")

    assert answer.json["state"] == "starting"
    assert "in hang" in answer.json["sentence"]


async def test_it_answers_when_all_others_fail(tmp_path: Path) -> None:
    async def fail(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        raise OSError("no disk")

    async with running(tmp_path, {"web": Manifold(fail)}) as (engine, asker):
        await until(engine, "web", "delayed")
        answer = await asker.get("/readyz")

    assert answer.status == 503
    assert "no disk" in answer.json["waiting"][0]["sentence"]


async def test_a_program_that_nobody_asks_never_wakes_up_for_it(tmp_path: Path) -> None:
    async with running(tmp_path, {"db": Manifold(serve)}) as (_, asker):
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        await asker.get("/report")
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf


# -- while it stops ----


async def test_it_answers_until_all_others_have_ended(tmp_path: Path) -> None:
    engine, asker = engine_with(tmp_path, {"web": SLOW_TO_STOP, "db": Manifold(serve)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await until(engine, "introspection", "started")
        engine.kill()
        await until(engine, "db", "stopped")
        await wait_all_tasks_blocked()
        states = {n: m["state"] for n, m in (await asker.get("/report")).json["manifolds"].items()}
        sentence = (await asker.get("/explain/web")).json["sentence"]
        assert states["introspection"] == states["web"] == "stopping"
        assert "asked and not cancelled yet" in sentence
        assert (await asker.get("/readyz")).status == 503
        engine.kill(grace=0)
    assert not asker.path.exists()


async def test_why_the_engine_has_not_stopped_is_told_by_who_holds_it_up_and_not_by_who_answers(
    tmp_path: Path,
) -> None:
    """What is asked stands in the way itself, but only because it waits for the others."""
    engine, asker = engine_with(tmp_path, {"web": SLOW_TO_STOP, "db": Manifold(serve)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await until(engine, "introspection", "started")
        engine.kill()
        await until(engine, "db", "stopped")
        told = (await asker.get("/explain/engine")).json
        assert [link["manifold"] for link in told["chain"]] == ["engine", "introspection", "web"]
        assert told["sentence"].startswith("engine stops (")
        assert (
            "introspection answers until web has ended; web has been stopping" in told["sentence"]
        )
        itself = (await asker.get("/explain/introspection")).json
        assert [link["manifold"] for link in itself["chain"]] == ["introspection", "web"]
        engine.kill(grace=0)


async def test_it_ends_by_itself_after_the_last_of_the_others(tmp_path: Path) -> None:
    let_go = trio.Event()

    async def last(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await get.wait_stopping()
        await let_go.wait()

    web = Manifold(last, ask=lambda value: None, grace=math.inf)
    engine, asker = engine_with(tmp_path, {"db": Manifold(serve), "web": web})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await until(engine, "introspection", "started")
        engine.kill()
        await wait_all_tasks_blocked()
        assert (await asker.get("/healthz")).status == 200
        let_go.set()
        with trio.fail_after(PATIENCE):
            await engine.wait()
    assert engine.report().manifolds["introspection"].history[-1].error is None


async def test_alone_it_does_not_wait_for_itself(tmp_path: Path) -> None:
    engine, _ = engine_with(tmp_path, {})
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_state("introspection", "started")
            engine.kill()


async def test_it_does_not_wait_for_what_it_needs_itself(tmp_path: Path) -> None:
    """What it is bound to may need others, which all wait for it."""
    engine = Engine()
    itself = self_manifold(engine)

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        await itself.start(get, task_status=task_status)

    wrapped = Manifold(start, inputs=("clock",), outputs=itself.outputs)
    it = manifold(Config(socket=tmp_path / "private" / "it.sock"))
    engine.install_all({"clock": Manifold(serve), "me": wrapped, "it": it.bind({"engine": "me"})})
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_state("it", "started")
            engine.kill()


async def test_two_of_them_do_not_wait_for_each_other(tmp_path: Path) -> None:
    another = manifold(Config(socket=tmp_path / "private" / "another.sock"))
    engine, asker = engine_with(tmp_path, {"another": another, "web": SLOW_TO_STOP})
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_state("introspection", "started")
            await engine.wait_state("another", "started")
            engine.kill()
            await wait_all_tasks_blocked()
            for path in (asker.path, tmp_path / "private" / "another.sock"):
                assert (await Asker(path).get("/healthz")).status == 200
            engine.kill(grace=0)
    assert {one.state for one in engine.report().manifolds.values()} == {"stopped"}


async def test_two_of_them_alone_end(tmp_path: Path) -> None:
    another = manifold(Config(socket=tmp_path / "private" / "another.sock"))
    engine, _ = engine_with(tmp_path, {"another": another})
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_state("introspection", "started")
            await engine.wait_state("another", "started")
            engine.kill()


async def test_the_grace_of_the_engine_s_stop_is_the_longest_it_goes_on(tmp_path: Path) -> None:
    engine, _ = engine_with(tmp_path, {"web": SLOW_TO_STOP})
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_state("introspection", "started")
            engine.kill(grace=0.05)


async def test_a_hard_stop_ends_it_at_once_whoever_is_connected(tmp_path: Path) -> None:
    engine, asker = engine_with(tmp_path, {})
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_state("introspection", "started")
            async with await asker.connect() as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHo")
                await wait_all_tasks_blocked()
                engine.kill(grace=0)
                await engine.wait()
    assert not asker.path.exists()


# -- when only it is stopped ----


@pytest.mark.parametrize("verb", ["hold", "restart", "uninstall"])
async def test_alone_stopped_it_ends_at_once_and_its_streams_are_whole(
    tmp_path: Path, verb: str
) -> None:
    async with running(tmp_path, {"web": SLOW_TO_STOP}) as (engine, asker):
        async with await asker.connect() as stream:
            await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await some_of(stream, b": these")
            getattr(engine, verb)("introspection")
            with trio.fail_after(PATIENCE):
                rest = b"".join([bytes(part) async for part in stream])
        assert rest.endswith(b"0\r\n\r\n")
        assert engine.report().manifolds["web"].state == "started"
        if verb == "restart":
            await until(engine, "introspection", "started")
            assert (await asker.get("/healthz")).status == 200


async def some_of(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    received = b""
    with trio.fail_after(PATIENCE):
        while end not in received:
            data = await stream.receive_some()
            assert data, received
            received += data
    return received


async def test_it_is_restarted_with_the_engine_s_manifold(tmp_path: Path) -> None:
    async with running(tmp_path, {}) as (engine, asker):
        engine.restart("engine")
        await until(engine, "introspection", "waiting")
        await until(engine, "introspection", "started")
        assert (await asker.get("/healthz")).status == 200


# -- the socket ----


async def test_only_its_owner_reaches_the_socket(tmp_path: Path) -> None:
    async with running(tmp_path, {}) as (_, asker):
        assert stat.S_IMODE(asker.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(asker.path.parent.stat().st_mode) == 0o700
    assert not asker.path.exists()


async def test_a_socket_that_another_program_listens_on_is_an_error_and_left_alone(
    tmp_path: Path,
) -> None:
    policy = EngineConfig(restart=RestartPolicy(error_delay=60))
    with bound_socket(tmp_path / "private" / "it.sock", os.getuid()):
        engine, asker = engine_with(tmp_path, {"web": Manifold(serve)}, engine_config=policy)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await until(engine, "introspection", "delayed")
            why = engine.report().manifolds["introspection"].why
            assert why is not None
            assert f"process {os.getpid()} listens on" in why
            assert engine.report().manifolds["web"].state == "started"
            engine.kill()
        assert asker.path.exists()


async def test_a_socket_that_was_replaced_meanwhile_is_not_removed(tmp_path: Path) -> None:
    async with running(tmp_path, {}) as (_, asker):
        asker.path.unlink()
        other = bound_socket(asker.path, os.getuid())
    with other:
        assert asker.path.exists()


async def test_the_default_socket_is_that_of_the_engine_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    engine = Engine(EngineConfig(name="my shop"))
    engine.install_all({"engine": self_manifold(engine), "introspection": manifold()})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await until(engine, "introspection", "started")
        answer = await Asker(tmp_path / "trioworker" / "my shop.sock").get("/report")
        assert answer.json["name"] == "my shop"
        engine.kill()


async def test_a_port_that_is_taken_is_an_error_and_no_socket_is_left(tmp_path: Path) -> None:
    policy = EngineConfig(restart=RestartPolicy(error_delay=60))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = Config(port=taken.getsockname()[1], token=TOKEN)
        engine, asker = engine_with(tmp_path, {}, config=config, engine_config=policy)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await until(engine, "introspection", "delayed")
            assert not asker.path.exists()
            engine.kill()


async def test_it_reports_where_it_listens_and_who_asks(tmp_path: Path) -> None:
    async with running(tmp_path, {}, config=Config(port=0, token=TOKEN)) as (engine, asker):
        local = Asker(asker.path)
        await local.get("/healthz")
        report: Any = engine.report().manifolds["introspection"].worker
        assert report["addresses"] == [str(asker.path), f"127.0.0.1:{asker.port}"]
        assert report["requests"] == 1
        assert TOKEN not in json.dumps(report)


# -- events and slow readers ----


async def test_a_slow_reader_is_told_how_much_it_has_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioworker.workers.agent.introspection._routes.BACKLOG", 4)
    async with (
        running(tmp_path, {}) as (engine, asker),
        await asker.connect() as stream,
    ):
        await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await some_of(stream, b": these")
        await wait_all_tasks_blocked()
        # In one step, so that nobody could read.
        engine.install_all({f"m{n}": Manifold(hang) for n in range(10)})
        text = await some_of(stream, b'"m9","before":"waiting","after":"starting"')
        # Each goes from absent to waiting and to starting: twenty.
        assert b'event: dropped\ndata: {"count":16}\n\ndata: {"time"' in text


async def test_a_stream_of_events_ends_with_the_program_and_has_the_last_of_them(
    tmp_path: Path,
) -> None:
    engine, asker = engine_with(tmp_path, {"db": Manifold(serve)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await until(engine, "introspection", "started")
        async with await asker.connect() as stream:
            await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await some_of(stream, b": these")
            engine.kill()
            with trio.fail_after(PATIENCE):
                text = b"".join([bytes(part) async for part in stream])
    assert b'"db","before":"stopping","after":"stopped"' in text
    assert text.endswith(b"0\r\n\r\n")


async def test_a_stream_of_events_shows_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioworker.workers.agent.introspection._routes.HEARTBEAT", 0.01)
    async with running(tmp_path, {}) as (_, asker), await asker.connect() as stream:
        await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b": nothing new\n\n" in await some_of(stream, b": nothing new\n\n")


async def test_a_reader_that_hangs_up_is_forgotten(tmp_path: Path) -> None:
    engine, asker = engine_with(tmp_path, {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await until(engine, "introspection", "started")
        async with await asker.connect() as stream:
            await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await some_of(stream, b": these")
            assert connections(engine) == 1
        await wait_all_tasks_blocked()
        assert connections(engine) == 0
        engine.kill()


def connections(engine: Engine) -> int:
    worker: Any = engine.report().manifolds["introspection"].worker
    count: int = worker["connections"]
    return count


async def test_what_is_recorded_is_read_all_the_time(tmp_path: Path) -> None:
    """Else what nobody asks for would be counted as lost by a slow reader."""
    engine = Engine()
    recorder = Recorder(engine, most=20)
    itself = self_manifold(engine)
    faces: dict[Any, Any] = {**itself.outputs, Recorder: always(recorder)}
    engine.install_all(
        {
            "engine": Manifold(itself.start, outputs=faces),
            "it": manifold(Config(socket=tmp_path / "private" / "it.sock")),
            "db": Manifold(serve),
        }
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await until(engine, "it", "started")
        for _ in range(10):
            engine.restart("db")
            await wait_all_tasks_blocked()
        assert recorder._stream.dropped == 0
        assert recorder.forgotten > 0
        engine.kill()


async def test_who_has_no_token_cannot_keep_others_out_of_the_unix_socket(tmp_path: Path) -> None:
    config = Config(port=0, token="0123456789abcdef", connections=2)
    async with (
        running(tmp_path, {}, config=config) as (engine, tcp),
        await tcp.connect(),
        await tcp.connect(),
    ):
        while connections(engine) < 2:  # noqa: ASYNC110 - the kernel tells nobody here
            await trio.sleep(0.01)

        assert (await Asker(tcp.path).get("/healthz")).status == 200
        assert (await tcp.get("/healthz")).status == 503


# -- what is hidden ----


async def test_what_is_masked_is_masked_in_every_answer(tmp_path: Path) -> None:
    async def leak(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        raise ValueError("cannot log in with hunter2")

    engine = Engine()
    itself = self_manifold(engine)

    def mask(text: str) -> str:
        return text.replace("hunter2", "${PASSWORD}")

    faces: dict[Any, Any] = {**itself.outputs, Masking: always(mask)}
    path = tmp_path / "private" / "it.sock"
    engine.install_all(
        {
            "engine": Manifold(itself.start, outputs=faces),
            "it": manifold(Config(socket=path)),
            "web": Manifold(leak),
        }
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await until(engine, "it", "started")
        await until(engine, "web", "delayed")
        asker = Asker(path)
        for target in ("/report", "/explain/web", "/readyz", "/trace.json", "/", "/graph.svg"):
            answer = await asker.get(target)
            assert answer.status in {200, 503}, target
            assert b"hunter2" not in answer.body, target
        assert b"${PASSWORD}" in (await asker.get("/report")).body
        engine.kill()


def always(value: object) -> Callable[[object], object]:
    return lambda _: value


async def test_an_inspector_alone_is_not_enough(tmp_path: Path) -> None:
    """It says what is missing, in the words of the engine."""
    engine = Engine(EngineConfig(restart=RestartPolicy(error_delay=60)))
    engine.install_all(
        {
            "engine": Manifold(serve, outputs={Inspector: always(engine)}),
            "it": manifold(Config(socket=tmp_path / "private" / "it.sock")),
        }
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await until(engine, "it", "delayed")
        assert "Operator" in str(engine.explain("it"))
        engine.kill()
