"""The commands that ask a running program: what they print and return."""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if sys.platform == "win32":
    pytest.skip("there are no Unix sockets", allow_module_level=True)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

from trioworker._cli import _live
from trioworker._cli._app import main

from .live_server import (
    EPOCH,
    EXPLAINED,
    NOT_READY,
    STACKS,
    TROUBLED,
    WAITS,
    Answer,
    Server,
    as_bytes,
    as_json,
    as_stream,
    manifold,
    report,
    serving,
    silence,
    stale,
    transition,
)

Output = pytest.CaptureFixture[str]
COMMANDS = [
    ["status"],
    ["explain", "web"],
    ["events"],
    ["restart", "web"],
    ["hold", "web"],
    ["release", "web"],
    ["stacks"],
    ["trace", "-o", os.devnull],
    ["wait", "--timeout", "0"],
]


@pytest.fixture(autouse=True)
def one_timezone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def shop(runtime: Path) -> Iterator[Server]:
    """A program in trouble, and the only one that listens."""
    with serving(runtime / "shop.sock") as server:
        yield server


def all_well(*manifolds: dict[str, Any]) -> dict[str, Answer]:
    return {"/report": as_json(report(*manifolds)), "/readyz": as_json({"ready": True})}


# -- status ----------------------------------------------------------------------------------------


def test_status_shows_each_manifold_and_a_summary(shop: Server, capsys: Output) -> None:
    assert main(["status"]) == 1, "it is not ready"
    out, err = capsys.readouterr()
    header, clock, db, web, nothing, summary = out.splitlines()

    assert header.split() == ["manifold", "state", "since", "starts", "why", "last", "error"]
    assert clock.split() == ["clock", "started", "12", "s", "1"]
    assert " ".join(db.split()) == (
        "db delayed 0.3 s 2 starts again in 0.2 s after 2 failures in a row "
        "ValueError: no (0.3 s ago)"
    )
    assert " ".join(web.split()) == "web waiting 1:12 1 waits for db"
    assert nothing == ""
    assert summary == "shop  not ready: 3 manifolds, 1 started, 1 delayed, 1 waiting"
    assert err == ""


def test_status_of_a_program_that_is_ready_is_0(runtime: Path, capsys: Output) -> None:
    held = manifold("b", "held")
    with serving(runtime / "shop.sock", all_well(manifold("a"), held)):
        assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "manifold  state    since  starts  why",
        "a         started   12 s       1",
        "b         held      12 s       1  by an operator",
        "",
        "shop  ready: 2 manifolds, 1 started, 1 held",
    ]


def test_status_of_a_program_that_stops_says_so(runtime: Path, capsys: Output) -> None:
    stopping = report(manifold("a", "stopping", stop_cause="SIGTERM"), state="dying", reason="bye")
    answers = {"/report": as_json(stopping), "/readyz": as_json({"ready": False, "waiting": []})}
    with serving(runtime / "shop.sock", answers):
        assert main(["status"]) == 1
    out = capsys.readouterr().out
    assert "SIGTERM" in out
    assert out.endswith("\nshop  stopping (bye): 1 manifold, 1 stopping\n")


def test_a_program_without_manifolds_is_a_line(runtime: Path, capsys: Output) -> None:
    with serving(runtime / "shop.sock", all_well()):
        assert main(["status"]) == 0
    assert capsys.readouterr().out == "shop  ready: 0 manifolds\n"


def test_nothing_is_cut_or_wrapped_where_there_is_no_terminal(
    runtime: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    sentence = f"a waits for {', '.join(f'manifold-{n}' for n in range(300))}"
    waiting = [{"manifold": "a", "state": "waiting", "sentence": sentence}]
    answers = {
        "/report": as_json(report(manifold("a", "waiting"))),
        "/readyz": as_json({"ready": False, "waiting": waiting}, 503),
    }
    with serving(runtime / "shop.sock", answers):
        assert main(["status"]) == 1
    assert sentence.removeprefix("a ") in capsys.readouterr().out


def test_no_text_of_a_program_moves_the_cursor(runtime: Path, capsys: Output) -> None:
    evil = "\x1b[2J\r\n[bold]:smile:\x9b0m\u202e"
    one = manifold(evil, evil, why=evil, starts=1)
    told = {"manifold": evil, "state": evil, "text": evil}
    answers = {
        "/report": as_json({**report(one), "name": evil}),
        "/readyz": as_json({"ready": False, "waiting": [{**told, "sentence": evil}]}, 503),
        "/explain/web": as_json({**EXPLAINED, "sentence": evil, "chain": [told, told]}),
        "/stacks": as_json({evil: [{"name": evil, "frames": [evil], "children": []}]}),
        "/events": as_stream(f"data: {json.dumps({'text': evil})}\n\n"),
        "/restart/web": as_json({"error": evil, "hint": evil}, 404),
    }
    with serving(runtime / "shop.sock", answers):
        for command in (*COMMANDS, ["events", "--follow"], ["wait", "--timeout", "0"]):
            main([*command])
            main([*command, "--json"])
    out, err = capsys.readouterr()
    assert all(char.isprintable() or char == "\n" for char in out + err)
    assert "[bold]:smile:" in out, "nor is it markup"


# -- explain ---------------------------------------------------------------------------------------


def test_explain_says_the_sentence_and_goes_down_to_the_root(shop: Server, capsys: Output) -> None:
    assert main(["explain", "web"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        WAITS,
        "",
        "  web  waiting  waits for db",
        "  db   delayed  is backing off 0.2 s more after ValueError: no, 2nd failure",
        "",
        "root cause: db",
        "when it stops, so do: page, cart",
    ]


def test_explain_of_a_root_is_its_sentence(runtime: Path, capsys: Output) -> None:
    link = {"manifold": "db", "state": "started", "text": "db has been started for 3 s"}
    told = {**link, "sentence": link["text"], "chain": [link], "blast_radius": []}
    with serving(runtime / "shop.sock", {"/explain/db": as_json(told)}):
        assert main(["explain", "db"]) == 0
    assert capsys.readouterr().out == "db has been started for 3 s\n"


def test_an_unknown_name_is_2_with_the_programs_own_hint(shop: Server, capsys: Output) -> None:
    for command in (["explain", "wbe"], ["stacks", "wbe"], ["restart", "wbe"]):
        assert main(command) == 2
        assert capsys.readouterr() == (
            "",
            f"trioworker: nothing at /{command[0]}/wbe\n  did you mean web?\n",
        )


# -- events ----------------------------------------------------------------------------------------


def test_events_shows_the_latest_ends_oldest_first(shop: Server, capsys: Output) -> None:
    assert main(["events"]) == 0
    header, *ends = capsys.readouterr().out.splitlines()
    assert header.split() == ["at", "ago", "manifold", "end", "after", "why"]
    assert [" ".join(line.split()) for line in ends] == [
        "22:12:20 1:00 db stopped 2.0 s restart()",
        "22:13:19 0.3 s db error 0.5 s ValueError: no",
    ]


def test_events_as_json_is_a_line_each_with_the_time_of_the_wall(
    shop: Server, capsys: Output
) -> None:
    assert main(["events", "--json"]) == 0
    ends = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [end["epoch"] for end in ends] == [EPOCH - 60, EPOCH - 0.3]
    assert ends[1]["manifold"] == "db"


def test_where_nothing_has_ended_events_says_so(runtime: Path, capsys: Output) -> None:
    with serving(runtime / "shop.sock", all_well(manifold("a"))):
        assert main(["events"]) == 0
    assert capsys.readouterr().out == "no run of any manifold has ended yet\n"


FOLLOWED = [
    f"data: {json.dumps(transition('a: waiting -> starting'))}\n\n",
    'event: dropped\ndata: {"count": 3}\n\n',
    "event: dropped\ndata: 4\n\n",
]


def test_followed_events_are_a_line_each_until_the_program_ends(
    runtime: Path, capsys: Output
) -> None:
    with serving(runtime / "shop.sock", {"/events": as_stream(*FOLLOWED)}):
        assert main(["events", "--follow"]) == 0
        assert [line[10:] for line in capsys.readouterr().out.splitlines()] == [
            "a: waiting -> starting",
            "(3 transitions were not shown)",
            "(4 transitions were not shown)",
        ]
        assert main(["events", "--follow", "--json"]) == 0
        first, *others = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["after"] == "starting"
    assert others == [{"dropped": 3}, {"dropped": 4}]


class Pipe(io.RawIOBase):
    """What is on the other side of standard output: it sees what is flushed."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: "Buffer", /) -> int:
        self.seen.append(bytes(memoryview(data)))
        return len(self.seen[-1])


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_each_event_is_seen_by_who_reads_before_the_next_one_comes(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(pipe)))

    def one_by_one() -> Iterator[str]:
        for number, event in enumerate(FOLLOWED):
            end = time.monotonic() + 10
            while len(pipe.seen) < number:
                assert time.monotonic() < end
                time.sleep(0.005)
            yield event

    with serving(runtime / "shop.sock", {"/events": as_stream(one_by_one())}):
        assert main(["events", "--follow", *options]) == 0, "else the stream broke off"
    assert len(pipe.seen) == len(FOLLOWED)


def test_a_program_that_dies_while_it_is_followed_is_4(runtime: Path, capsys: Output) -> None:
    answers = {"/events": as_stream(*FOLLOWED, is_whole=False)}
    with serving(runtime / "shop.sock", answers):
        assert main(["events", "--follow"]) == 4
    out, err = capsys.readouterr()
    assert "a: waiting -> starting" in out, "what there was is shown"
    assert "the answer broke off: the program has ended, or was killed" in err


# -- restart, hold, release ------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["restart", "hold", "release"])
def test_an_action_is_asked_for_with_post(runtime: Path, capsys: Output, verb: str) -> None:
    with serving(runtime / "shop.sock", {f"/{verb}/web": as_json({}, 202)}) as server:
        assert main([verb, "web"]) == 0
        assert capsys.readouterr().out == f"web: asked for {verb}\n"
        assert main([verb, "web", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"asked": verb, "manifold": "web"}
    assert server.asked == [f"POST /{verb}/web"] * 2


def test_a_refused_action_is_4(runtime: Path, capsys: Output) -> None:
    refused = as_json({"error": "you may not", "hint": "ask root"}, 403)
    with serving(runtime / "shop.sock", {"/hold/web": refused}):
        assert main(["hold", "web"]) == 4
    assert capsys.readouterr().err == "trioworker: you may not\n  ask root\n"


# -- stacks ----------------------------------------------------------------------------------------


def test_stacks_shows_the_tree_of_tasks(shop: Server, capsys: Output) -> None:
    tree = ["web", "  web", "    web.py:3 in start", "    | db", "    |   db.py:7 in start"]
    assert main(["stacks", "web"]) == 0
    assert capsys.readouterr().out.splitlines() == tree
    assert main(["stacks"]) == 0
    assert capsys.readouterr().out.splitlines() == [*tree, "db: no tasks"]


# -- trace -----------------------------------------------------------------------------------------


def test_trace_writes_a_file(shop: Server, tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "trace.json"
    assert main(["trace", "-o", str(path)]) == 0
    assert json.loads(path.read_text()) == [{"name": "web", "ph": "B"}]
    assert capsys.readouterr().out.startswith(f"{path} is written; open it in ui.perfetto.dev")
    assert main(["trace", "--output", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(path)}


def test_a_trace_that_cannot_be_written_names_the_file(
    shop: Server, tmp_path: Path, capsys: Output
) -> None:
    assert main(["trace", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"trioworker: {tmp_path}: Is a directory\n"


# -- wait ------------------------------------------------------------------------------------------


def test_wait_for_a_ready_program_is_0_at_once(runtime: Path, capsys: Output) -> None:
    with serving(runtime / "shop.sock", all_well()):
        assert main(["wait", "--for", "ready", "--timeout", "60"]) == 0
    assert capsys.readouterr() == ("ready\n", "")


def test_wait_in_vain_is_1_and_names_what_it_waited_for(shop: Server, capsys: Output) -> None:
    assert main(["wait", "--timeout", "0.15"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    sentences = [one["sentence"] for one in NOT_READY["waiting"]]
    assert err.splitlines() == ["trioworker: not ready", *(f"    {told}" for told in sentences)]
    assert len(shop.asked) > 1


def test_wait_for_one_that_ends_meanwhile_is_3(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """What it said before it ended is no answer any more."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(serving(runtime / "shop.sock"))

        def ends(seconds: float) -> None:
            stack.close()

        monkeypatch.setattr("time.sleep", ends)
        assert main(["wait", "--timeout", "0.2"]) == 3
    assert "no program of yours listens" in capsys.readouterr().err


def test_wait_gives_up_at_once_when_something_has_failed_for_good(
    runtime: Path, capsys: Output
) -> None:
    failed = {"manifold": "a", "state": "failed", "sentence": "a was restarted too often"}
    answers = {"/readyz": as_json({"ready": False, "waiting": [failed]}, 503)}
    with serving(runtime / "shop.sock", answers) as server:
        assert main(["wait", "--timeout", "3600", "--json"]) == 1
    assert server.asked == ["GET /readyz"]
    assert json.loads(capsys.readouterr().out)["waiting"] == [failed]


def test_wait_waits_for_a_program_that_is_not_there_yet(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the command sleeps; first silent, as one whose loop is blocked."""
    slept = 0

    def comes(seconds: float) -> None:
        nonlocal slept
        assert seconds > 0
        slept += 1
        if slept == 1:
            answers = {**all_well(), "/readyz": silence}
            running.append(stack.enter_context(serving(runtime / "shop.sock", answers)))
        else:
            running[0].answers["/readyz"] = as_json({"ready": True})

    running: list[Server] = []
    monkeypatch.setattr("time.sleep", comes)
    monkeypatch.setattr(_live, "ANSWER", 0.05)
    with contextlib.ExitStack() as stack:
        assert main(["wait", "--timeout", "60"]) == 0
    assert slept == 2


@pytest.mark.parametrize("timeout", ["-1", "nan"])
def test_a_timeout_that_is_none_is_2(shop: Server, capsys: Output, timeout: str) -> None:
    assert main(["wait", "--timeout", timeout]) == 2
    assert "--timeout must be at least 0" in capsys.readouterr().err


# -- all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_json_is_what_the_program_said(runtime: Path, capsys: Output, command: list[str]) -> None:
    actions = {f"/{verb}/web": as_json({}, 202) for verb in ("restart", "hold", "release")}
    with serving(runtime / "shop.sock", actions):
        main([*command, "--json"])
    told = capsys.readouterr().out
    answers: dict[str, Any] = {"status": {**TROUBLED, **NOT_READY}, "explain": EXPLAINED}
    answers |= {"stacks": {"web": STACKS, "db": []}, "wait": NOT_READY}
    assert told.isascii()
    if command[0] in answers:
        assert json.loads(told) == answers[command[0]]
    else:
        assert (
            [json.loads(line) for line in told.splitlines()]
            if command == ["events"]
            else (json.loads(told))
        )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_where_nobody_listens_each_is_3_with_the_next_step(
    runtime: Path, capsys: Output, command: list[str]
) -> None:
    assert main(command) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("trioworker: no program of yours listens in ")
    assert "trioworker.workers.agent.introspection:manifold" in err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_socket_may_be_chosen(
    runtime: Path, tmp_path: Path, capsys: Output, command: list[str]
) -> None:
    left = stale(runtime / "left.sock")
    assert main([*command, "--socket", str(left)]) == 3
    assert "left.sock: nobody listens any more" in capsys.readouterr().err
    with serving(runtime / "a.sock") as chosen, serving(runtime / "b.sock") as other:
        assert main(command) == 2
        assert "several programs listen; choose one:\n" in capsys.readouterr().err
        main([*command, "--socket", str(runtime / "a.sock")])
    assert chosen.asked
    assert not other.asked


@pytest.mark.parametrize("body", [b"3", b"[]", b"{}", b'{"ready": 3}', b"null", b"x"])
@pytest.mark.parametrize("command", COMMANDS[:3] + COMMANDS[6:7] + COMMANDS[8:], ids=" ".join)
def test_an_answer_of_another_kind_is_4(
    runtime: Path, capsys: Output, command: list[str], body: bytes
) -> None:
    paths = ("report", "readyz", "explain/web", "stacks")
    with serving(runtime / "shop.sock", {f"/{path}": as_bytes(body) for path in paths}):
        expected = 0 if command == ["stacks"] and body == b"{}" else 4
        assert main(command) == expected
    assert ("no trioworker program" in capsys.readouterr().err) is (expected == 4)
