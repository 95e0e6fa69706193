"""The model of the engine, by small histories: what it expects, and what it finds wrong.

A model that allowed everything would find nothing, so most of these are of the second kind.
"""

from __future__ import annotations

from typing import Any

import pytest

from .engine_model import Entry, History, Model, Policy, Spec, Wrong, expected

POLICY = Policy()


class Story:
    """A history in the making: what happens, one after the other, at a time that is set."""

    def __init__(self, **specs: Spec) -> None:
        self.time = 0.0
        self.entries: History = []
        self.tell("open")
        self.tell("install", data={"specs": specs, "later": None})

    def tell(self, what: str, name: str = "", run: int = 0, data: Any = None, **rest: Any) -> None:
        self.entries.append(Entry(self.time, what, name, run, data, **rest))

    def up(self, *names: str, run: int = 1, **given: int) -> None:
        """Each of `names` begins, with the inputs `given`, and is ready."""
        for name in names:
            self.tell("begin", name, run, given)
            self.tell("ready", name, run)

    def left(self, name: str, *leaves: str, run: int = 1) -> None:
        self.tell("left", name, run, list(leaves))

    def stopped(self, name: str, run: int = 1) -> None:
        self.tell("felt", name, run)
        self.left(name, run=run)

    def quiet(self, **delays: float) -> None:
        self.tell("quiet", data={"delays": delays, "shielded": set(), "states": {}})

    def end(self, policy: Policy = POLICY, **options: str) -> Model:
        return expected(self.entries, policy, **options)

    def states(self, policy: Policy = POLICY, **options: str) -> dict[str, str]:
        return self.end(policy, **options).states()

    def is_wrong(self, words: str, policy: Policy = POLICY) -> None:
        with pytest.raises(Wrong, match=words):
            self.end(policy)


def pair(**options: Any) -> Story:
    """The input a and its user b, both started."""
    story = Story(a=Spec(**options), b=Spec(inputs=("a",)))
    story.up("a")
    story.up("b", a=1)
    story.quiet()
    return story


def test_what_can_run_runs() -> None:
    assert pair().states() == {"a": "started", "b": "started"}


def test_a_start_that_nobody_called_is_missed() -> None:
    story = Story(a=Spec())
    story.quiet()
    story.is_wrong("could start")


def test_a_start_without_its_input_is_wrong() -> None:
    story = Story(a=Spec(), b=Spec(inputs=("a",)))
    story.tell("begin", "b", 1, {"a": 0})
    story.is_wrong("not now")


def test_a_second_run_beside_the_first_is_wrong() -> None:
    story = pair()
    story.tell("begin", "b", 2, {"a": 1})
    story.is_wrong("not now")


def test_an_input_that_is_not_the_present_one_is_wrong() -> None:
    story = Story(a=Spec(), b=Spec(inputs=("a",)))
    story.up("a")
    story.tell("begin", "b", 1, {"a": 7})
    story.is_wrong("not what it uses")


def test_an_input_that_is_cancelled_before_its_user_has_ended_is_wrong() -> None:
    story = pair()
    story.tell("restart", "a")
    story.tell("felt", "a", 1)
    story.is_wrong("draining")


def test_a_planned_stop_goes_from_the_users_to_the_input_and_back() -> None:
    story = pair()
    story.tell("restart", "a")
    story.tell("look", data={"a": "draining", "b": "stopping"})
    story.stopped("b")
    story.stopped("a")
    story.up("a", run=2)
    story.up("b", run=2, a=2)
    story.quiet()
    assert story.states() == {"a": "started", "b": "started"}


def test_a_stop_that_nobody_felt_is_missed() -> None:
    story = pair()
    story.tell("hold", "b")
    story.quiet()
    story.is_wrong("was not cancelled")


def test_a_cancellation_that_nobody_asked_for_is_wrong() -> None:
    story = pair()
    story.tell("felt", "b", 1)
    story.is_wrong("not now")


def test_a_crash_drains_users_and_delays() -> None:
    story = pair()
    story.left("a", "error 1")
    story.stopped("b")
    story.quiet(a=1.0)
    assert story.states() == {"a": "delayed", "b": "waiting"}


@pytest.mark.parametrize("left", [0.5, 1.5])
def test_a_delay_of_another_length_is_wrong(left: float) -> None:
    story = Story(a=Spec())
    story.up("a")
    story.left("a", "error 1")
    story.quiet(a=left)
    story.is_wrong("delayed for")


def test_a_start_before_its_delay_is_over_is_wrong() -> None:
    story = Story(a=Spec())
    story.up("a")
    story.left("a", "error 1")
    story.tell("begin", "a", 2, {})
    story.is_wrong("not now")


def test_a_delay_that_never_ends_is_missed() -> None:
    story = Story(a=Spec())
    story.up("a")
    story.left("a", "error 1")
    story.quiet(a=1.0)
    story.time = 1.0
    story.quiet()
    story.is_wrong("could start")


def test_delays_grow_and_are_forgotten_after_health() -> None:
    story = Story(a=Spec())
    for run, health, delay in ((1, 0.0, 1.0), (2, 0.0, 1.5), (3, 59.0, 2.25), (4, 60.0, 1.0)):
        story.up("a", run=run)
        story.quiet()
        story.time += health
        story.left("a", "error 1", run=run)
        story.quiet(a=delay)
        story.time += delay
    story.up("a", run=5)
    assert story.states() == {"a": "started"}


def test_too_many_restarts_are_a_failure() -> None:
    policy = Policy(max_restarts=1, period=10.0)
    story = Story(a=Spec())
    story.up("a")
    story.left("a", "bounce 1")
    story.quiet(a=0.01)
    story.time = 0.01
    story.up("a", run=2)
    story.left("a", "error 2", run=2)
    story.quiet()
    assert story.states(policy) == {"a": "failed"}
    assert story.end(policy, on_failed="fatal").is_dead


@pytest.mark.parametrize(
    "leaves, state",
    [
        ((), "done"),
        (("missing 1",), "waiting"),
        (("missing 1", "bounce 2"), "waiting"),
        (("uninstall 1", "missing 2"), "absent"),
        (("bounce 1",), "delayed"),
        (("retry 1 1.5", "bounce 2"), "delayed"),
        (("uninstall 1", "error 2"), "delayed"),
        (("error 1", "fatal 2"), "stopped"),
        (("interrupt 1",), "stopped"),
    ],
)
def test_an_end_leads_where_its_leaves_say(leaves: tuple[str, ...], state: str) -> None:
    story = Story(a=Spec())
    story.up("a")
    story.left("a", *leaves)
    story.tell("restart", "b", result="NotFound")
    assert story.states().get("a", "absent") == state


WAYS = {
    "inputs": Spec(inputs=("a",)),
    "optional": Spec(optional=("a",)),
    "live": Spec(live=("a",)),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_that_is_done_runs_again_when_an_input_changes(way: str) -> None:
    story = Story(a=Spec(), b=WAYS[way])
    story.up("a")
    story.up("b", **({} if way == "live" else {"a": 1}))
    story.left("b")
    story.quiet()
    story.tell("restart", "a")
    story.stopped("a")
    story.up("a", run=2)
    story.quiet()
    story.is_wrong("b could start" if way != "live" else "b.* could start|b#")


def test_one_that_returns_without_any_change_is_not_started_again() -> None:
    story = pair()
    story.left("b")
    story.tell("begin", "b", 2, {"a": 1})
    story.is_wrong("not now")


def test_an_optional_input_that_comes_restarts() -> None:
    story = Story(a=Spec(optional=("z",)))
    story.up("a", z=0)
    story.tell("install", data={"specs": {"z": Spec()}, "later": None})
    story.up("z")
    story.stopped("a")
    story.tell("begin", "a", 2, {"z": 1})
    story.quiet()
    assert story.states() == {"a": "starting", "z": "started"}


def test_an_optional_input_that_came_and_was_ignored_is_missed() -> None:
    story = Story(a=Spec(optional=("z",)))
    story.up("a", z=0)
    story.tell("install", data={"specs": {"z": Spec()}, "later": None})
    story.up("z")
    story.quiet()
    story.is_wrong("was not cancelled")


def test_a_start_waits_for_an_optional_input_that_starts() -> None:
    story = Story(z=Spec(), a=Spec(optional=("z",)))
    story.tell("begin", "z", 1, {})
    story.tell("begin", "a", 1, {"z": 0})
    story.is_wrong("not now")


def test_a_soft_phase_begins_with_a_question_and_lasts_as_long_as_it_says() -> None:
    story = Story(a=Spec(ask=True, grace=2.0))
    story.up("a")
    story.tell("hold", "a")
    story.tell("asked", "a", 1, [], hooked=True)
    story.quiet()
    story.time = 2.0
    story.stopped("a")
    story.quiet()
    assert story.states() == {"a": "held"}


def test_a_question_that_was_not_asked_is_missed() -> None:
    story = Story(a=Spec(ask=True, grace=2.0))
    story.up("a")
    story.tell("hold", "a")
    story.quiet()
    story.is_wrong("not asked")


def test_a_cancellation_before_the_grace_is_over_is_wrong() -> None:
    story = Story(a=Spec(ask=True, grace=2.0))
    story.up("a")
    story.tell("hold", "a")
    story.tell("asked", "a", 1, [], hooked=True)
    story.time = 1.0
    story.tell("felt", "a", 1)
    story.is_wrong("not now")


def test_a_hard_kill_ends_a_soft_phase() -> None:
    story = Story(a=Spec(ask=True, grace=2.0))
    story.up("a")
    story.tell("hold", "a")
    story.tell("asked", "a", 1, [], hooked=True)
    story.tell("kill", data={"reason": [], "grace": 0.0})
    story.quiet()
    story.is_wrong("was not cancelled")


def test_a_start_that_takes_too_long_is_cancelled() -> None:
    story = Story(a=Spec(start_timeout=1.0))
    story.tell("begin", "a", 1, {})
    story.quiet()
    story.time = 1.0
    story.stopped("a")
    story.quiet(a=1.0)
    assert story.states() == {"a": "delayed"}
    assert story.end().mans["a"].ends == ["error"]


def test_one_that_is_stuck_no_longer_holds_up_its_input() -> None:
    story = pair()
    story.tell("hold", "a")
    story.tell("felt", "b", 1)
    story.quiet()
    story.time = 10.0
    story.stopped("a")
    story.quiet()
    assert story.states() == {"a": "held", "b": "stopping"}
    assert story.end().mans["b"].run is not None


def test_one_that_is_not_stuck_yet_holds_up_its_input() -> None:
    story = pair()
    story.tell("hold", "a")
    story.tell("felt", "b", 1)
    story.time = 9.0
    story.tell("felt", "a", 1)
    story.is_wrong("used by b#1")


def test_one_that_ended_early_keeps_its_place_in_the_order() -> None:
    """C uses b, which uses a: b ends by itself, and a still has to wait for c."""
    story = Story(a=Spec(), b=Spec(inputs=("a",)), c=Spec(inputs=("b",)))
    story.up("a")
    story.up("b", a=1)
    story.up("c", b=1)
    story.tell("hold", "a")
    story.tell("felt", "c", 1)
    story.left("b", "error 1")
    story.tell("felt", "a", 1)
    story.is_wrong("draining")


@pytest.mark.parametrize(
    "verbs, state",
    [
        (["restart"], "starting"),
        (["hold"], "held"),
        (["hold", "restart"], "held"),
        (["hold", "release"], "starting"),
        (["uninstall", "hold", "release"], "absent"),
        (["hold", "uninstall"], "absent"),
    ],
)
def test_the_last_word_is_the_strongest(verbs: list[str], state: str) -> None:
    story = Story(a=Spec())
    story.up("a")
    for verb in verbs:
        story.tell(verb, "a")
    story.stopped("a")
    story.tell("drain" if state == "held" else "open")
    assert story.states().get("a", "absent") == state


@pytest.mark.parametrize(
    "specs, later, error",
    [
        ({"a": Spec()}, None, "AlreadyExists"),
        ({"x": Spec(inputs=("x",))}, None, "CycleError"),
        ({"x": Spec(inputs=("y",)), "y": Spec(optional=("x",))}, (), "CycleError"),
        ({"x": Spec(inputs=("q",))}, (), "UnknownInput"),
        ({"x": Spec(inputs=("q",))}, ("q",), ""),
        ({"x": Spec(live=("x",))}, None, ""),
    ],
)
def test_what_may_not_be_installed_is_refused(
    specs: dict[str, Spec], later: tuple[str, ...] | None, error: str
) -> None:
    story = pair()
    data = {"specs": specs, "later": later}
    story.tell("install", data=data, result=error)
    assert story.end().states().keys() >= {"a", "b"}
    story.entries[-1].result = "" if error else "CycleError"
    story.is_wrong("should have raised")


def test_a_shutdown_ends_in_order_and_leaves_all_stopped() -> None:
    story = pair()
    story.tell("cancel")
    story.stopped("b")
    story.stopped("a")
    story.quiet()
    model = story.end()
    assert model.is_dead
    assert model.states() == {"a": "stopped", "b": "stopped"}


def cancelled_and_uninstalled(**states: str) -> Story:
    """Cancelled from outside; before anybody was seen to feel it, `a` is asked, and removes `b`."""
    story = Story(a=Spec(ask=True), b=Spec())
    story.up("a", "b")
    story.quiet()
    story.tell("hold", "b")
    story.stopped("b")
    story.quiet()
    story.tell("restart", "a")
    story.tell("cancel")
    story.tell("uninstall", "b", hooked=True)
    story.tell("asked", "a", 1, [])
    story.stopped("a")
    story.tell("quiet", data={"delays": {}, "shielded": set(), "states": states})
    return story


def test_a_verb_may_come_before_or_after_a_cancellation_from_outside_is_felt() -> None:
    assert cancelled_and_uninstalled(a="stopped").states() == {"a": "stopped"}
    both = {"a": "stopped", "b": "stopped"}
    assert cancelled_and_uninstalled(**both).states() == both


def test_a_cancellation_from_outside_allows_no_third_thing() -> None:
    assert cancelled_and_uninstalled(a="stopped", b="held").states() == {"a": "stopped"}

    story = cancelled_and_uninstalled(a="stopped", b="stopped")
    story.tell("begin", "b", 2, {})
    story.is_wrong("not now")


def test_a_second_interrupt_ends_all_order() -> None:
    story = pair()
    story.tell("install", data={"specs": {"x": Spec(), "y": Spec()}, "later": None})
    story.up("x", "y")
    story.left("x", "interrupt 1")
    story.tell("felt", "y", 1)
    story.left("y", "interrupt 2")
    story.stopped("a")
    story.stopped("b")
    story.quiet()
    assert story.end().is_dead
