"""What is made of a program's answers: who is said to be the cause, and what is no answer."""

from typing import Any

import pytest

from trioworker._cli._client import ClientError
from trioworker._cli._told import Picture, ends, picture, told, waiting

from .live_server import end, manifold, report


def pictured(*manifolds: dict[str, Any], **sentences: str) -> Picture:
    unready = [
        {"manifold": name, "state": "waiting", "sentence": sentence}
        for name, sentence in sentences.items()
    ]
    return picture(report(*manifolds), {"ready": not unready, "waiting": unready})


def whys(*manifolds: dict[str, Any], **sentences: str) -> dict[str, str]:
    return {row.name: row.why for row in pictured(*manifolds, **sentences).rows}


def waits(name: str, *inputs: str) -> dict[str, Any]:
    return manifold(name, "waiting", waiting_for=list(inputs))


def test_who_waits_names_whom_it_waits_for_and_the_root() -> None:
    """Not the whole chain: the rows of the others tell the rest."""
    assert whys(
        manifold("db", "delayed"),
        waits("web", "db"),
        waits("page", "web"),
        waits("cart", "page", "web"),
        page="page waits for web; and so on",
        db="db is backing off",
    ) == {
        "db": "is backing off",
        "web": "waits for db",
        "page": "waits for web, because of db",
        "cart": "waits for page, web, because of db",
    }


def test_of_several_the_root_is_one_that_does_not_wait_itself() -> None:
    failed = manifold("db", "failed")
    found = whys(waits("page", "web"), waits("web", "cache", "db"), waits("cache", "x"), failed)
    assert found["page"] == "waits for web, because of db"


def test_a_root_that_has_no_row_is_told_with_the_whole_sentence() -> None:
    sentence = "web waits for db; db is not installed"
    assert whys(waits("web", "db"), web=sentence) == {"web": "waits for db; db is not installed"}


def test_a_program_that_waits_in_a_circle_is_no_endless_loop() -> None:
    """Which none of ours does; but who answers may be anybody."""
    assert whys(waits("a", "b"), waits("b", "a"), a="a waits", b="b waits") == {
        "a": "waits",
        "b": "waits",
    }


def test_one_that_waits_for_a_change_is_told_as_the_program_says_it() -> None:
    sentence = "a waits for a change of its inputs (b): no key"
    assert whys(manifold("a", "waiting", why="no key"), a=sentence)["a"] == sentence[2:]


def test_one_that_is_not_waited_for_is_told_by_its_report() -> None:
    assert whys(
        manifold("a", "stopping", stop_cause="restart()"),
        manifold("b", "done"),
        manifold("c", "failed", why="ValueError: no"),
    ) == {"a": "restart()", "b": "", "c": "ValueError: no"}


def test_the_last_error_is_that_of_a_failure_and_no_verdict_or_stop() -> None:
    history = [
        end("error", "ValueError: old", 50),
        end("fatal", "ValueError: new", 40),
        end("bounce", "Bounce: again", 30),
        end("stopped", None, 20),
    ]
    [row, never] = pictured(manifold("a", history=history), manifold("b")).rows
    assert (row.last_error, row.error_age) == ("ValueError: new", 40)
    assert (never.last_error, never.error_age) == ("", None)


def test_ends_are_told_in_the_order_in_which_they_came_whosever_they_are() -> None:
    a = manifold("a", history=[end("stopped", None, 30), end("stopped", None, 10)])
    b = manifold("b", history=[end("error", "ValueError: no", 20)])
    assert [(one.manifold, one.ago) for one in ends(report(a, b))] == [
        ("a", 30),
        ("b", 20),
        ("a", 10),
    ]


@pytest.mark.parametrize(
    "state, reason, summary",
    [
        ("alive", None, "ready: 1 manifold, 1 started"),
        ("dying", None, "stopping: 1 manifold, 1 started"),
        ("dead", "boom", "dead (boom): 1 manifold, 1 started"),
    ],
)
def test_the_summary_says_first_how_the_program_is(
    state: str, reason: str | None, summary: str
) -> None:
    one = report(manifold("a"), state=state, reason=reason)
    assert picture(one, {"ready": True}).summary == summary


def test_not_ready_and_nobody_to_blame_is_not_ready() -> None:
    [(state, sentence)] = waiting({"ready": False, "waiting": []}).values()
    assert (state, sentence) == ("", "the program is not ready, and names no manifold")


@pytest.mark.parametrize("answer", [None, [], {}, {"ready": 1}, {"ready": False}, 3, "x"])
def test_what_is_no_answer_is_one_kind_of_error(answer: object) -> None:
    with pytest.raises(ClientError, match="what answers is no trioworker program"):
        told(waiting, answer)
