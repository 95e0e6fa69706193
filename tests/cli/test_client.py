"""Asking a program: what finds it, and what may be wrong with its answers."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("there are no Unix sockets", allow_module_level=True)

from trioworker._cli import _client
from trioworker._cli._client import (
    Client,
    ClientError,
    NoAnswer,
    NobodyListens,
    UnknownName,
    directories,
    find_socket,
    look,
)

from .live_server import (
    Answer,
    as_bytes,
    as_json,
    as_raw,
    as_stream,
    serving,
    silence,
    stale,
)

UID = os.getuid()

# -- finding it ------------------------------------------------------------------------------------


def test_programs_listen_in_the_runtime_directory_or_else_in_tmp() -> None:
    shared = Path("/tmp/trioworker-7")
    assert directories({}, 7) == [shared]
    assert directories({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == [
        Path("/run/user/7/trioworker"),
        shared,
    ]
    assert directories({"XDG_RUNTIME_DIR": "not/absolute"}, 7) == [shared]


def test_the_one_that_listens_is_found_among_what_others_have_left(runtime: Path) -> None:
    stale(runtime / "old.sock")
    (runtime / "file.sock").write_text("no socket")
    with serving(runtime / "shop.sock"):
        assert find_socket(None) == runtime / "shop.sock"


def test_what_is_chosen_is_not_looked_for(runtime: Path) -> None:
    with serving(runtime / "shop.sock"):
        assert find_socket(Path("other.sock")) == Path("other.sock")


def test_without_a_program_the_error_tells_where_it_looked_and_the_next_step(runtime: Path) -> None:
    stale(runtime / "old.sock")
    with pytest.raises(NobodyListens) as caught:
        find_socket(None)

    first, left, *offer = str(caught.value).splitlines()
    assert first == f"no program of yours listens in {runtime}"
    assert left == f"{runtime}/old.sock is left over from a program that was killed"
    assert "[manifolds.introspection]" in "\n".join(offer)


def test_one_that_is_too_busy_to_accept_listens_all_the_same(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as other:
        bound.bind(str(runtime / "shop.sock"))
        bound.listen(0)
        other.connect(str(runtime / "shop.sock"))
        assert look([runtime], UID).live == [runtime / "shop.sock"]


def test_several_programs_are_listed_by_name_and_socket(runtime: Path) -> None:
    with serving(runtime / "shop.sock"), serving(runtime / "a%2Fb.sock"):
        with pytest.raises(UnknownName) as caught:
            find_socket(None)

        assert str(caught.value).splitlines() == [
            "several programs listen; choose one:",
            f"    a/b   --socket {runtime}/a%2Fb.sock",
            f"    shop  --socket {runtime}/shop.sock",
        ]


def opened(place: Path) -> None:
    place.chmod(0o755)


def linked(place: Path) -> None:
    place.rename(place.with_name("real"))
    place.symlink_to("real")


@pytest.mark.parametrize(
    "spoil, why",
    [(opened, "it is open to others (mode 0755)"), (linked, "it is no directory")],
)
def test_a_directory_that_need_not_be_ours_is_passed_over_and_said_to_be(
    runtime: Path, spoil: Callable[[Path], None], why: str
) -> None:
    with serving(runtime / "shop.sock"):
        spoil(runtime)
        found = look([runtime], UID)

    assert found.live == []
    assert found.refused == [f"{runtime} is passed over: {why}"]


def test_a_directory_of_somebody_else_is_passed_over(runtime: Path) -> None:
    found = look([runtime], UID + 1)
    assert found.refused == [
        f"{runtime} is passed over: it belongs to user {UID}, not to {UID + 1}"
    ]


# -- no answer -------------------------------------------------------------------------------------


def test_a_stale_socket_is_a_program_that_has_ended(runtime: Path) -> None:
    path = stale(runtime / "shop.sock")
    with pytest.raises(NobodyListens, match="nobody listens any more: the program has ended"):
        Client(path).get("report")


def test_a_socket_that_is_not_there_is_nobody_who_listens(runtime: Path) -> None:
    with pytest.raises(NobodyListens, match=r"shop\.sock: there is no such socket\n"):
        Client(runtime / "shop.sock").get("report")


def test_a_file_and_a_directory_are_no_sockets(runtime: Path) -> None:
    (runtime / "file").write_text("")
    for path in (runtime, runtime / "file"):
        with pytest.raises(NobodyListens, match="this is no socket"):
            Client(path).get("report")


def test_a_path_that_is_too_long_for_a_socket_is_said_to_be(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = runtime / ("x" * 200)
    deep.mkdir()
    monkeypatch.chdir(deep)
    stale(Path("shop.sock"))
    with pytest.raises(ClientError, match="too long"):
        Client(deep / "shop.sock").get("report")


@pytest.mark.skipif(UID == 0, reason="root may open every socket")
def test_a_socket_that_we_may_not_open_is_told_by_its_owner(runtime: Path) -> None:
    path = runtime / "shop.sock"
    with serving(path):
        path.chmod(0)
        with pytest.raises(ClientError, match=f"it is a socket of user {UID}"):
            Client(path).get("report")


def test_a_refused_permission_tells_whose_socket_it_is(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = stale(runtime / "shop.sock")
    monkeypatch.setattr(_client._Connection, "connect", refused)
    with pytest.raises(ClientError, match=f"it is a socket of user {UID}: only they and root"):
        Client(path).get("report")


@pytest.mark.skipif(sys.platform != "linux", reason="the peer's user is asked of Linux")
def test_the_other_end_is_known_by_its_user(runtime: Path) -> None:
    with serving(runtime / "shop.sock"), socket.socket(socket.AF_UNIX) as connected:
        connected.connect(str(runtime / "shop.sock"))
        assert _client.peer(connected) == UID


@pytest.mark.skipif(sys.platform != "linux", reason="the peer's user is asked of Linux")
@pytest.mark.parametrize("listener, me", [(7, 8), (8, 8), (0, 8), (7, 0)])
def test_a_stranger_who_listens_is_asked_nothing_but_by_root(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, listener: int, me: int
) -> None:
    def told(_: socket.socket) -> int:
        return listener

    monkeypatch.setattr(os, "getuid", lambda: me)
    monkeypatch.setattr(_client, "peer", told)
    with serving(runtime / "shop.sock") as server:
        client = Client(runtime / "shop.sock")
        if (listener, me) == (7, 8):
            with pytest.raises(ClientError, match="user 7 listens there, and is not asked"):
                client.get("report")
            assert server.asked == []
        else:
            client.get("report")


def test_one_that_does_not_answer_is_given_up(runtime: Path) -> None:
    client = Client(runtime / "shop.sock", timeout=0.05)
    told = "no answer in time: the program's event loop may be blocked"
    with serving(runtime / "shop.sock", {"/report": silence}), pytest.raises(NoAnswer, match=told):
        client.get("report")


def test_one_that_does_not_even_accept_is_given_up(runtime: Path) -> None:
    """A stopped program: the kernel takes connections for it until the queue is full."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(runtime / "shop.sock"))
        bound.listen(0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(runtime / "shop.sock"))
            for _ in range(2):
                with pytest.raises(NoAnswer, match="the program's event loop may be blocked"):
                    Client(runtime / "shop.sock", timeout=0.05).get("report")


# -- answers that cannot be used -------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, kind, why",
    [
        (as_bytes(b'{"a": ', announced=500), NoAnswer, "the answer broke off"),
        (as_bytes(b"", announced=500), NoAnswer, "the answer broke off"),
        (as_raw(b""), NoAnswer, "the answer broke off"),
        (as_raw(b"HTTP/1.1 200 OK\r\n"), ClientError, "it is not JSON"),
        (as_raw(b"SSH-2.0-OpenSSH_9\r\n"), ClientError, "no trioworker program: SSH-2.0"),
        (as_raw(b"HTTP/1.1 " + b"x" * 100_000), ClientError, "no trioworker program"),
        (as_raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200), ClientError, "no trioworker program"),
        (as_bytes(b"<html>"), ClientError, "no trioworker program: it is not JSON"),
        (as_bytes(b"\xff\xfe\x00"), ClientError, "no trioworker program: it is not JSON"),
        (as_bytes(b"[" * 100_000), ClientError, "no trioworker program: it is not JSON"),
        (as_bytes(b"oops", 500), ClientError, "the answer was status 500"),
        (as_json(["error"], 403), ClientError, "the answer was status 403"),
        (as_json({"error": "not you", "hint": ""}, 403), ClientError, "^not you$"),
        (as_json({"error": "no x", "hint": "did you mean y?"}, 404), UnknownName, "^no x\ndid you"),
    ],
)
def test_an_answer_that_cannot_be_used_says_what_is_wrong_with_it(
    runtime: Path, answer: Answer, kind: type[ClientError], why: str
) -> None:
    client = Client(runtime / "shop.sock")
    answers = {"/report": answer}
    with serving(runtime / "shop.sock", answers), pytest.raises(ClientError, match=why) as caught:
        client.get("report")
    assert type(caught.value) is kind


def test_an_answer_is_bounded_in_size(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_client, "LIMIT", 1000)
    endless = {"/report": as_bytes(b"[" + b" " * 1001), "/events": as_stream("x" * 1001)}
    with serving(runtime / "shop.sock", endless):
        client = Client(runtime / "shop.sock")
        with pytest.raises(ClientError, match="too large"):
            client.get("report")
        with pytest.raises(ClientError, match="too large"):
            list(client.events())


def test_an_answer_that_trickles_is_bounded_in_time(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"/report": as_stream("[", "]")}
    with serving(runtime / "shop.sock", answers):
        client = Client(runtime / "shop.sock")
        assert client.get("report") == []
        times = iter([0.0, 29.9, 30.1])
        monkeypatch.setattr("trioworker._cli._client.monotonic", lambda: next(times))
        with pytest.raises(NoAnswer, match="takes too long"):
            client.get("report")


def test_names_of_any_kind_arrive_as_they_are(runtime: Path) -> None:
    with serving(runtime / "shop.sock") as server:
        with pytest.raises(UnknownName):
            Client(runtime / "shop.sock").post("restart", "a/b?c d#\u00e9")
        assert server.asked == ["POST /restart/a%2Fb%3Fc%20d%23%C3%A9"]


# -- events ----------------------------------------------------------------------------------------

EVENT = 'data: {"text": "a: waiting -> starting"}\n\n'


def streamed(runtime: Path, *parts: str) -> list[tuple[str, object]]:
    with serving(runtime / "shop.sock", {"/events": as_stream(*parts)}):
        return list(Client(runtime / "shop.sock").events())


def test_events_are_read_however_they_are_cut(runtime: Path) -> None:
    told = {"text": "a: waiting -> starting"}
    assert streamed(runtime, EVENT, EVENT) == [("message", told)] * 2
    assert streamed(runtime, *EVENT, *EVENT.replace("\n", "\r\n")) == [("message", told)] * 2


def test_comments_and_empty_events_are_nothing(runtime: Path) -> None:
    assert streamed(runtime, ": alive\n\n", "event: x\n\n", "id: 3\n\n") == []


def test_an_event_may_have_a_name_and_several_lines(runtime: Path) -> None:
    assert streamed(runtime, 'event: dropped\ndata: {\ndata:"count": 3}\n\n', EVENT) == [
        ("dropped", {"count": 3}),
        ("message", {"text": "a: waiting -> starting"}),
    ]


def test_a_stream_that_breaks_off_is_told_from_one_that_ends(runtime: Path) -> None:
    with serving(runtime / "shop.sock", {"/events": as_stream(EVENT, is_whole=False)}):
        events = Client(runtime / "shop.sock").events()
        assert next(events) == ("message", {"text": "a: waiting -> starting"})
        with pytest.raises(NoAnswer, match="broke off"):
            next(events)


def test_a_refused_stream_says_why(runtime: Path) -> None:
    answers = {"/events": as_json({"error": "too many connections"}, 503)}
    events = Client(runtime / "shop.sock").events()
    with serving(runtime / "shop.sock", answers), pytest.raises(ClientError, match="too many"):
        list(events)
