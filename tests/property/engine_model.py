"""What an engine must do, told a second time: a plain function of what happened.

It was written from the engine's rules (E1-E18) and knows nothing of how the engine is made. What it
is given is a `History`: which verbs were called with what, and what each worker did (began, was
ready, felt a cancellation, was asked, left with what), each with its time. `expected` folds it into
the state that every manifold must have. What it is *not* given is anything that the engine says of
itself, with two exceptions: how long a delay with jitter is (checked to lie within the jitter), and
what a verb raised (checked against what it may raise).

It is naive on purpose: after each entry it looks at all manifolds again until nothing follows any
more (`_settle`), so it has no counters, no queues and no order to get wrong.

An entry that the rules do not allow at that point raises `Wrong`: a start function that is called
without its inputs, a run that is cancelled while another uses it, a delay that is too short. And at
each `quiet` entry, everything that had to happen must have happened.

**Silent steps.** Some steps of an engine show nowhere at once: a run that is stopped before its
first step, the end of a run with helpers, a timer. They are kept back and taken when something that
was seen needs them (`_catch_up`), or when the engine has come to rest, which is before any time
passes.

**Where it does not say one thing only:**

- after a second interrupt all is cancelled at once: runs are *draining* or *stopping*, in no order;
- `started()` after the wish to stop: whether the soft phase applies then, no rule says;
- one that rests and reads an input that is being stopped may be woken by it, and then be stopped
  with it before it is called: that shows in its counts, and until the next rest in its state;
- a verb that foreign code calls in the middle of a step may come before or after a start that the
  same step makes, so one that was never called may be counted or not;
- a verb that foreign code calls while the engine deals with the failure of one makes the end of
  that one wanted (no delay) if it is reached by the verb first, else not;
- a health time that ends between the fall of a run and its end counts or does not;
- an input that changes between the last step of a run with helpers and its end, in one instant,
  comes before the end or after it: after it, it ends or shortens the delay;
- one whose run was stopped before its first step starts again as soon as that has ended, which may
  be before an optional input begins anew, or after: then it waits for it; or before the next verb
  stops it once more, or after: then there is one start less;
- a verb that foreign code calls after a cancellation from outside may come before the engine has
  felt it or after: after it, all stops already, and a removal changes nothing. The two go on side
  by side (`others`) until one of them is wrong, or the states tell.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

AGAIN, HOLD, UNINSTALL = 0, 1, 2

BUSY = ("starting", "draining", "stopping")
UP = ("starting", "started")
VERBS = ("install", "uninstall", "restart", "hold", "release", "drain", "kill")


_LATE = "error 0"
"""The leaf of a start time-out, which nobody raises."""


class Wrong(AssertionError):
    """What was seen is against a rule."""


@dataclass(frozen=True)
class Policy:
    """The fields of a `RestartPolicy`."""

    error_delay: float = 1.0
    factor: float = 1.5
    max_delay: float = 60.0
    jitter: float = 0.0
    reset_after: float = 60.0
    bounce_delay: float = 0.01
    max_restarts: int | None = None
    period: float = 60.0


@dataclass(frozen=True)
class Spec:
    """What of a manifold the model needs to know."""

    inputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    ask: bool = False
    grace: float = 0.0
    start_timeout: float | None = None
    stop_timeout: float | None = 10.0
    filter: bool = False
    policy: Policy | None = None

    @property
    def depends(self) -> tuple[str, ...]:
        return self.inputs + self.optional


@dataclass
class Entry:
    """One thing that happened.

    Attributes:
        time: when.
        what: the name of a method of `Model`, without its underscores.
        name: of whom, if of a manifold.
        run: the number of its run, if of a run.
        data: what else there is to say.
        hooked: whether foreign code said so that the engine had called in the middle of a step.
        result: what a verb raised: the name of the class, or "" for nothing.
    """

    time: float
    what: str
    name: str = ""
    run: int = 0
    data: Any = None
    hooked: bool = False
    result: str = ""

    def __str__(self) -> str:
        of = f"{self.name}#{self.run}" if self.run else self.name
        rest = "" if self.data is None else f" {self.data}"
        raised = f" -> {self.result}" if self.result else ""
        return f"{self.time:9.3f} {'  ' * self.hooked}{self.what} {of}{rest}{raised}"


History = list[Entry]


@dataclass(eq=False)
class Run:
    """One run: from the call of the start function (or before it) to its end."""

    name: str
    spec: Spec
    began: float
    uses: dict[str, Run]
    number: int = 0  # of the call; 0 until the start function was called
    state: str = "starting"
    ready: float | None = None
    was_late: bool = False  # the start timeout was over
    late_ready: bool = False  # started() came after the wish to stop
    planned: bool = False  # its end is wanted
    fell: float | None = None  # since when it is ending by itself
    changed: bool = False  # one of its inputs, since it began
    changed_last: set[str] = field(default_factory=set[str])  # those since its last step
    must_ask: bool = False
    asked: bool = False
    cancel_due: float | None = None
    cancelled: float | None = None
    felt: bool = False
    left: bool = False  # the start function
    helpers: int = 0
    had_helpers: bool = False
    stuck: bool = False
    ended: bool = False
    in_passing: bool = False  # stopped by foreign code, while it was ending by itself
    unwell: float | None = None  # when its health was over
    leaves: list[str] = field(default_factory=list[str])
    filtered: tuple[str, ...] | None = None

    @property
    def called(self) -> bool:
        return self.number > 0

    @property
    def is_over(self) -> bool:
        """Whether nothing of it goes on: its end follows, and shows nowhere."""
        if not self.called:
            return self.state == "stopping"
        return self.left and self.helpers == 0

    @property
    def is_unfiltered(self) -> bool:
        """Whether its filter, which sees any end with an exception, was not asked."""
        is_exception = bool(self.leaves) and not any(x.startswith("interrupt") for x in self.leaves)
        return self.spec.filter and is_exception and self.filtered is None

    @property
    def is_late_soon(self) -> bool:
        """Whether it has not said that it is ready, and nobody has cancelled it."""
        return self.state in ("starting", "draining") and self.ready is None and not self.late_ready


@dataclass(eq=False)
class Man:
    """An installed manifold."""

    name: str
    spec: Spec
    policy: Policy
    rest: str = "waiting"  # its state while it has no run; "missing" shows as waiting
    run: Run | None = None
    intention: int = AGAIN
    failures: frozenset[int] = frozenset({0})
    times: list[float] = field(default_factory=list[float])
    delay_began: float = 0.0
    delay: tuple[float, ...] = ()  # when it may be over
    jitter: float = 0.0
    cap: float = math.inf  # when a live change ends it, at the latest
    other_cap: float | None = None  # if a change came after its end
    uncalled: int = 0  # so many runs ended before their first step
    is_early: bool = False  # a run of it ended uncalled: it may have started again before others
    other_way: tuple[frozenset[int], list[float]] | None = None  # if its end was wanted after all
    starts: int = 0
    ends: list[str] = field(default_factory=list[str])

    @property
    def state(self) -> str:
        if self.run is not None:
            return self.run.state
        return "waiting" if self.rest == "missing" else self.rest


def judge(leaves: Iterable[str]) -> str:
    """Return what the leaves of an exception say of its run, by the precedence of the rules."""
    found = list(leaves)
    for kind, names in (
        ("fatal", ("fatal", "poison", "interrupt")),
        ("error", ("error",)),
        ("dying", ("dying",)),
        ("uninstall", ("uninstall",)),
        ("missing", ("missing",)),
        ("retry", ("retry",)),
        ("bounce", ("bounce",)),
    ):
        if any(leaf.split()[0] in names for leaf in found):
            return kind
    return "returned"


class Model:
    """The state of an engine after the entries that it was fed."""

    def __init__(self, policy: Policy, *, on_failed: str = "report") -> None:
        self.policy = policy
        self.on_failed = on_failed
        self.mans: dict[str, Man] = {}
        self.runs: list[Run] = []  # that somebody may still have to wait for
        self.now = 0.0
        self.is_open = False
        self.is_closing = False
        self.hard: float | None = None  # how long a soft phase may last
        self.panic = False
        self.hooked = False
        self.hooked_verbs = 0  # each may have stopped one that had not begun, or prevented it
        self.cancelled_outside = False
        self.must_feel_outside = False  # which it does at its next step
        self.others: list[Model] = []  # which felt it before a verb that this one takes first
        self.fatal: list[str] = []
        self.reasons = 0  # given to kill()

    # -- what is to be seen ------------------------------------------------------------------------

    @property
    def is_dead(self) -> bool:
        return self.is_open and self.is_closing and all(m.run is None for m in self.mans.values())

    def states(self) -> dict[str, str]:
        """Return the state of each manifold."""
        return {name: man.state for name, man in self.mans.items()}

    def has_orphans(self) -> bool:
        """Whether somebody holds up an input who is not installed any more, or not as before."""
        return any(
            run.ended and name not in getattr(self.mans.get(run.name), "spec", Spec()).depends
            for run in self.runs
            for name in run.uses
        )

    def deadlines(self) -> list[float]:
        """Return when something is to happen without anybody's doing."""
        return [due for due, _, _ in self._timers()]

    def users(self, name: str) -> tuple[str, ...]:
        """Return who stops when `name` does."""
        found, queue = list[str](), [name]
        while queue:
            of = queue.pop(0)
            for man in self.mans.values():
                if of in man.spec.depends and man.name not in found:
                    found.append(man.name)
                    queue.append(man.name)
        return tuple(found)

    # -- what happened -----------------------------------------------------------------------------

    def feed(self, entry: Entry) -> None:
        """Take the next entry.

        Raises:
            Wrong: it is against a rule.
        """
        if entry.hooked and entry.what in VERBS and self.must_feel_outside:
            self.others.append(self._felt_outside())
        self.others = [other for other in self.others if other._allows(entry)]
        try:
            self._take(entry)
        except Wrong:
            if not self.others:
                raise
            self._become(self.others[0])
        if entry.what == "quiet" and self.others:
            seen = entry.data["states"]
            self._become(next((m for m in (self, *self.others) if m.states() == seen), self))
            self.others = []

    def _felt_outside(self) -> Model:
        """Return what this one would be if it had felt the cancellation from outside already."""
        other = copy.deepcopy(self)
        other.others = []
        other._catch_up()
        return other

    def _allows(self, entry: Entry) -> bool:
        try:
            self._take(entry)
        except Wrong:
            return False
        return True

    def _become(self, other: Model) -> None:
        others = [each for each in self.others if each is not other]
        vars(self).update(vars(other))
        self.others = others

    def _take(self, entry: Entry) -> None:
        if not entry.hooked:
            for run in [r for r in self.runs if r.left and r.is_over and not r.had_helpers]:
                if not run.ended:
                    self._end(run)
                    self._settle()
        if entry.time < self.now:
            raise Wrong(f"time ran backwards: {entry}")
        self.now = entry.time
        self.hooked = entry.hooked
        self.hooked_verbs += entry.hooked and entry.what in VERBS
        getattr(self, f"_on_{entry.what}")(entry)
        self._settle()

    def _expect(self, entry: Entry, errors: set[str]) -> bool:
        """Check what a verb raised; return whether it was accepted."""
        if entry.result not in (errors or {""}):
            wanted = " or ".join(sorted(errors)) or "no error"
            raise Wrong(f"{entry}: should have raised {wanted}")
        return not errors

    def _on_open(self, entry: Entry) -> None:
        self.is_open = True

    def _on_install(self, entry: Entry) -> None:
        specs: dict[str, Spec] = entry.data["specs"]
        later: tuple[str, ...] | None = entry.data["later"]
        errors = self._refusals(specs, later)
        if entry.result not in (errors or {""}):
            self._catch_up()  # a name may have become free
            errors = self._refusals(specs, later)
        if self._expect(entry, errors):
            for name, spec in specs.items():
                self.mans[name] = Man(name, spec, spec.policy or self.policy)

    def _refusals(self, specs: Mapping[str, Spec], later: tuple[str, ...] | None) -> set[str]:
        errors = set[str]()
        if self.is_closing:
            return {"Dying"}
        if specs.keys() & self.mans.keys():
            errors.add("AlreadyExists")
        if later is not None:
            known = {*specs, *self.mans, *later}
            if any(name not in known for spec in specs.values() for name in spec.inputs):
                errors.add("UnknownInput")
        graph = {man.name: man.spec.depends for man in self.mans.values()}
        graph |= {name: spec.depends for name, spec in specs.items()}
        if any(_reaches(graph, name, name) for name in specs):
            errors.add("CycleError")
        return errors

    def _installed(self, entry: Entry) -> Man | None:
        """Return whom a verb is about; None if it is refused, or has no effect any more."""
        is_there = entry.name in self.mans
        if is_there == (entry.result == "NotFound"):
            self._catch_up()
        man = self.mans.get(entry.name)
        self._expect(entry, set() if man else {"NotFound"})
        return None if self.is_closing else man

    def _on_uninstall(self, entry: Entry) -> None:
        if man := self._installed(entry):
            man.intention = max(man.intention, UNINSTALL)
            if man.run is None:
                del self.mans[man.name]
            else:
                self._stop(man.run)

    def _on_hold(self, entry: Entry) -> None:
        if man := self._installed(entry):
            self._hold(man)

    def _on_drain(self, entry: Entry) -> None:
        self._expect(entry, set())
        if not self.is_closing:
            for man in list(self.mans.values()):
                self._hold(man)

    def _hold(self, man: Man) -> None:
        if man.run is None:
            man.rest = "held"
        else:
            man.intention = max(man.intention, HOLD)
            self._stop(man.run)

    def _on_release(self, entry: Entry) -> None:
        if man := self._installed(entry):
            if man.run is None and man.rest == "held":
                man.rest = "waiting"
            elif man.intention == HOLD:
                man.intention = AGAIN

    def _on_restart(self, entry: Entry) -> None:
        if man := self._installed(entry):
            if man.run is not None:
                self._stop(man.run, also_fallen=True)
            elif man.rest != "held":
                if man.rest == "failed":
                    man.times.clear()
                man.rest = "waiting"

    def _on_kill(self, entry: Entry) -> None:
        self._expect(entry, set())
        if self.is_dead:
            return
        if entry.data["reason"]:
            self.reasons += 1
            self.fatal += entry.data["reason"]
        self._close()
        if entry.data["grace"] is not None:
            self._harden(entry.data["grace"])

    def _on_cancel(self, entry: Entry) -> None:
        """The task that runs the engine is cancelled from outside."""
        if self.is_open and not self.is_dead:
            self.cancelled_outside = self.must_feel_outside = True

    def _close(self) -> None:
        self.is_closing = True
        for man in self.mans.values():
            if man.run is None:
                man.rest = "stopped"
            else:
                self._stop(man.run)

    def _harden(self, grace: float) -> None:
        self.hard = grace if self.hard is None else min(self.hard, grace)
        for man in self.mans.values():
            run = man.run
            if run and run.state == "stopping" and run.cancel_due is not None:
                run.cancel_due = min(run.cancel_due, self.now + grace)

    # -- what a worker did -------------------------------------------------------------------------

    def _on_begin(self, entry: Entry) -> None:
        man = self.mans.get(entry.name)
        if man is not None and man.run is not None and man.run.is_over:
            self._catch_up()
        self._go_other_way(entry.name)
        if man is not None and man.is_early and self._can_start(man, early=True):
            self._start(man)
        run = self._seen(entry, lambda r: not r.called and r.state == "starting")
        run.number = entry.run
        for name, number in entry.data.items():
            used = run.uses.get(name)
            if number != (used.number if used else 0):
                raise Wrong(f"{entry}: it was given {name}#{number}, which is not what it uses")

    def _on_ready(self, entry: Entry) -> None:
        run = self._seen(entry, lambda r: r.number == entry.run)
        if run.state == "starting":
            run.state, run.ready = "started", self.now
            for man in self.mans.values():
                other = man.run
                if run.name in man.spec.optional and other is not None and other.state in UP:
                    self._stop(other)
            self._changed(run.name)
        elif run.ready is None:
            run.late_ready = True

    def _on_asked(self, entry: Entry) -> None:
        run = self._seen(entry, lambda r: r.number == entry.run and self._may_be_asked(r))
        run.asked = True
        run.must_ask = False
        if run.late_ready and run.ready is None:
            run.cancel_due = self.now + self._grace(run)
        if entry.data:
            run.leaves += entry.data
            run.cancel_due = self.now

    def _may_be_asked(self, run: Run) -> bool:
        if run.state != "stopping" or run.asked or not run.planned:
            return False
        return run.must_ask or run.late_ready or self.hard is not None or self.panic

    def _on_felt(self, entry: Entry) -> None:
        run = self._seen(entry, lambda r: r.number == entry.run and self._may_feel(r))
        run.felt = True

    def _may_feel(self, run: Run) -> bool:
        if self.panic or run.fell is not None:
            return True
        return run.state == "stopping" and run.cancelled is not None

    def _on_left(self, entry: Entry) -> None:
        run = self._seen(entry, lambda r: r.number == entry.run)
        run.left = True
        run.leaves += entry.data
        if entry.data and not run.felt:
            self._fall(run)
        if run.unwell is None and run.helpers == 0:
            run.unwell = self.now

    def _on_helper(self, entry: Entry) -> None:
        run = self._seen(entry, lambda r: r.number == entry.run)
        run.helpers += 1
        run.had_helpers = True

    def _on_helper_left(self, entry: Entry) -> None:
        run = self._seen(entry, lambda r: r.number == entry.run)
        run.helpers -= 1
        run.leaves += entry.data
        if entry.data:
            self._fall(run)

    def _on_live(self, entry: Entry) -> None:
        """What a live view shows: the number of the run, 0 for nothing."""
        for attempt in (0, 1):
            runs = [m.run for m in self.mans.values() if m.name == entry.data[0]]
            shown = next((r.number for r in runs if r and r.state == "started"), 0)
            if shown == entry.data[1]:
                return
            if not attempt:
                self._catch_up()
        raise Wrong(f"{entry}: should show {shown}")

    def _on_filtered(self, entry: Entry) -> None:
        run = self._seen(entry, lambda r: r.is_over)
        if run.filtered is not None:
            raise Wrong(f"{entry}: a filter sees an end once")
        run.filtered = tuple(entry.data)

    def _seen(self, entry: Entry, allowed: Callable[[Run], bool]) -> Run:
        """Return the run of which an entry tells, if it is allowed now."""
        for attempt in (0, 1):
            man = self.mans.get(entry.name)
            run = man.run if man else None
            if run is not None and allowed(run):
                return run
            if not attempt:
                self._catch_up()
        raise Wrong(f"{entry}: not now; {self._tell(entry.name)}")

    def _tell(self, name: str) -> str:
        man = self.mans.get(name)
        if man is None:
            return f"{name} is not installed"
        used = [r for r in self.runs if man.name in r.uses and not self._released(r)]
        users = ", ".join(f"{r.name}#{r.number}" for r in used)
        return f"{name} is {man.state}, used by {users or 'nobody'}: {man.run}"

    def _go_other_way(self, name: str) -> None:
        """What was seen of `name` shows that its end counts as wanted, if that was open."""
        man = self.mans.get(name)
        if man is not None and man.run is None and man.other_way and man.rest != "held":
            man.failures, man.times = man.other_way
            man.other_way = None
            man.rest = "waiting"
            self._settle()

    # -- rest --------------------------------------------------------------------------------------

    def _on_look(self, entry: Entry) -> None:
        """Somebody has looked at the states, in the middle of things."""
        self._decide(entry.data)
        if self.states() != entry.data and not self.panic:
            self._catch_up()
            if not self._is_as_seen(entry.data):
                raise Wrong(f"{entry}: should be {self.states()}")

    def _is_as_seen(self, states: Mapping[str, str]) -> bool:
        """Whether the states are as seen, but for who was woken by a stop and stopped too."""
        return states.keys() == self.mans.keys() and all(
            states[name] == man.state
            or (
                man.state == "waiting"
                and states[name] in ("draining", "stopping")
                and bool(man.spec.live or man.spec.optional)
            )
            for name, man in self.mans.items()
        )

    def _on_quiet(self, entry: Entry) -> None:
        """All tasks are blocked.

        The data are the delays, the runs that shield themselves, and, only to choose where there
        are two ways, the states.
        """
        self._catch_up()
        self._decide(entry.data["states"])
        for man in self.mans.values():
            man.is_early = False
            if man.rest == "delayed" and man.run is None:
                self._check_delay(man, entry.data["delays"].get(man.name))
            if man.run is not None:
                self._check_quiet(man.run, entry.data["shielded"])

    def _decide(self, states: Mapping[str, str]) -> None:
        for name, man in self.mans.items():
            if man.other_way and man.state != states.get(name):
                self._go_other_way(name)
            man.other_way = None

    def _check_delay(self, man: Man, left: float | None) -> None:
        if left is None:
            raise Wrong(f"{man.name} should be delayed")
        caps = [man.cap] if man.other_cap is None else [man.cap, min(man.cap, man.other_cap)]
        for due, cap in product(man.delay, caps):
            room = (due - man.delay_began) * man.jitter + 1e-6
            least, most = min(due - room, cap), min(due + room, cap)
            if least - 1e-6 <= self.now + left <= most + 1e-6:
                man.delay, man.jitter, man.other_cap = (self.now + left,), 0.0, None
                return
        wanted = " or ".join(f"{min(due, man.cap) - self.now:g}" for due in man.delay)
        raise Wrong(f"{man.name} is delayed for {left:g} s, not {wanted} s")

    def _check_quiet(self, run: Run, shielded: Iterable[tuple[str, int]]) -> None:
        what = f"{run.name}#{run.number}"
        if run.is_over:
            raise Wrong(f"{what} ended, and its filter was not asked")
        if run.state == "starting" and not run.called:
            raise Wrong(f"{run.name} could start, and its start function was not called")
        if run.must_ask:
            raise Wrong(f"{what} was not asked to stop")
        is_deaf = (run.name, run.number) in shielded
        must_feel = self.panic or run.cancelled is not None or run.fell is not None
        if must_feel and not (run.felt or run.left or is_deaf):
            raise Wrong(f"{what} was not cancelled: {run}")

    def _catch_up(self) -> None:
        """Take every step that shows nowhere, until there is none."""
        if self.must_feel_outside:
            self.must_feel_outside = False
            self._close()
            self._harden(0.0)
        while True:
            self._settle()
            over = [m.run for m in self.mans.values() if m.run and m.run.is_over]
            if over := [run for run in over if not run.is_unfiltered]:
                self._end(over[0])
            elif due := min((t for t in self._timers() if t[0] <= self.now), default=None):
                self._fire(due)
            else:
                return

    # -- timers ------------------------------------------------------------------------------------

    def _timers(self) -> Iterator[tuple[float, str, str]]:
        for man in self.mans.values():
            run = man.run
            if run is None:
                if man.rest == "delayed":
                    yield min(*man.delay, man.cap), man.name, "delay"
                continue
            if run.is_late_soon and run.spec.start_timeout is not None:
                yield run.began + run.spec.start_timeout, man.name, "start"
            if run.state == "stopping" and run.cancel_due is not None and run.cancelled is None:
                yield run.cancel_due, man.name, "soft"
            if run.cancelled is not None and not run.stuck and run.spec.stop_timeout is not None:
                yield run.cancelled + run.spec.stop_timeout, man.name, "stuck"

    def _fire(self, timer: tuple[float, str, str]) -> None:
        _, name, what = timer
        man = self.mans[name]
        run = man.run
        if run is None:
            man.rest = "waiting"
        elif what == "start":
            run.was_late = True
            run.leaves.append(_LATE)
            self._fall(run)
        elif what == "soft":
            run.cancelled = self.now
        else:
            run.stuck = True

    # -- what follows ------------------------------------------------------------------------------

    def _settle(self) -> None:
        while True:
            drained = [
                man.run
                for man in self.mans.values()
                if man.run and man.run.state == "draining" and self._is_drained(man.run)
            ]
            if drained:
                self._go_down(drained[0])
                continue
            able = [man for man in self.mans.values() if self._can_start(man)]
            # Not yet, if an optional input of it is just about to start.
            names = {man.name for man in able}
            able = [man for man in able if not names.intersection(man.spec.optional)]
            if not able:
                break
            self._start(able[0])
        self.runs = [run for run in self.runs if not (run.ended and self._released(run))]

    def _can_start(self, man: Man, *, early: bool = False) -> bool:
        if man.run is not None or man.rest != "waiting" or self.is_closing or not self.is_open:
            return False
        if any(self._state(name) != "started" for name in man.spec.inputs):
            return False
        return early or not any(self._state(name) in BUSY for name in man.spec.optional)

    def _state(self, name: str) -> str:
        man = self.mans.get(name)
        return man.state if man else "absent"

    def _start(self, man: Man) -> None:
        uses = dict[str, Run]()
        for name in man.spec.depends:
            other = self.mans.get(name)
            if other and other.run and other.run.state == "started":
                uses[name] = other.run
        man.run = Run(man.name, man.spec, self.now, uses)
        man.other_way = None
        man.starts += 1
        self.runs.append(man.run)

    def _is_drained(self, run: Run) -> bool:
        return not any(run.name in r.uses and not self._released(r) for r in self.runs)

    def _released(self, run: Run) -> bool:
        """Whether it holds up its inputs no more. One that has users keeps its place for them."""
        if not (run.ended or run.stuck):
            return False
        return not any(r.uses.get(run.name) is run and not self._released(r) for r in self.runs)

    def _using(self, run: Run) -> list[Run]:
        return [r for r in self.runs if r.uses.get(run.name) is run and not r.ended]

    def _stop(self, run: Run, *, also_fallen: bool = False) -> None:
        """Want the end of a run: its users' first."""
        if run.state in UP:
            for user in self._using(run):
                self._stop(user)
            was, run.state = run.state, "draining"
            run.planned = True
            if run.unwell is None:
                run.unwell = self.now
            if was == "started":
                self._changed(run.name)
        elif also_fallen:
            run.planned = True
        elif self.hooked and run.fell == self.now:
            run.in_passing = True

    def _go_down(self, run: Run) -> None:
        """Nobody uses it any more."""
        run.state = "stopping"
        if run.left and run.helpers == 0:
            return
        if run.ready is None or not run.called:
            run.cancel_due = run.cancelled = self.now
            return
        run.must_ask = run.spec.ask and self.hard is None and not self.panic
        run.cancel_due = self.now + self._grace(run)
        if run.cancel_due <= self.now and not run.spec.ask:
            run.cancelled = self.now

    def _grace(self, run: Run) -> float:
        grace = run.spec.grace
        return grace if self.hard is None else min(grace, self.hard)

    def _fall(self, run: Run) -> None:
        """It is ending by itself; what is left of it is cancelled."""
        if run.fell is not None:
            return
        run.fell = self.now
        if run.unwell is None:
            run.unwell = self.now
        self._lose(run)
        run.state = "stopping"
        run.must_ask = False
        if run.cancelled is None:
            run.cancel_due = run.cancelled = self.now

    def _lose(self, run: Run) -> None:
        """Its output is gone: who uses it is to end."""
        was, run.state = run.state, "stopping"
        for user in self._using(run):
            self._stop(user)
        if was == "started":
            self._changed(run.name)

    def _changed(self, name: str) -> None:
        for man in self.mans.values():
            if name not in man.spec.depends + man.spec.live:
                continue
            if man.run is not None:
                man.run.changed = True
                if man.run.is_over:
                    man.run.changed_last.add(name)
            elif man.rest in ("done", "missing"):
                man.rest = "waiting"
            elif man.rest == "delayed":
                if name in man.spec.depends:
                    man.rest = "waiting"
                else:
                    least = max(self.now, man.delay_began + man.policy.bounce_delay)
                    man.cap = min(man.cap, least)

    def _end(self, run: Run) -> None:
        man = self.mans[run.name]
        if len(run.leaves) > 1 and _LATE in run.leaves:
            run.leaves.remove(_LATE)  # what it raised says more
        if run.is_unfiltered:
            raise Wrong(f"{run.name}#{run.number} ended, and its filter was not asked")
        run.must_ask = False
        self._lose(run)
        run.ended, man.run = True, None
        man.is_early = man.is_early or not run.called
        man.uncalled += not run.called
        kind = judge(run.leaves if run.filtered is None else run.filtered)
        man.ends.append("stopped" if kind == "returned" and run.planned else kind)
        self._count_health(man, run)
        if kind == "fatal":
            self._condemn(run)
        intention, man.intention = man.intention, AGAIN
        if self.is_closing:
            man.rest = "stopped"
        elif intention == UNINSTALL or kind == "uninstall":
            del self.mans[man.name]
        elif intention == HOLD:
            man.rest = "held"
        elif run.planned:
            man.rest = "waiting"
        else:
            man.other_way = (man.failures, [*man.times]) if run.in_passing else None
            leaves = run.leaves if run.filtered is None else run.filtered
            self._rest_after(man, run, kind, list(leaves))
            if man.rest == "delayed" and not man.other_way:
                self._maybe_woken(man, run.changed_last)

    def _maybe_woken(self, man: Man, changed: set[str]) -> None:
        """Those of its inputs that have `changed` may have done so after its end."""
        if changed & {*man.spec.depends}:
            man.other_way = (man.failures, [*man.times])
        elif changed:
            man.other_cap = man.delay_began + man.policy.bounce_delay

    def _rest_after(self, man: Man, run: Run, kind: str, leaves: list[str]) -> None:
        """Where the end leads that nobody wanted."""
        if kind in ("returned", "missing"):
            rest = "done" if kind == "returned" else "missing"
            man.rest = "waiting" if run.changed else rest
            return
        policy = man.policy
        man.rest, man.delay_began, man.jitter = "delayed", self.now, 0.0
        man.cap, man.other_cap = math.inf, None
        if kind == "retry":
            words = next(leaf for leaf in leaves if leaf.startswith("retry"))
            man.delay = (self.now + float(words.split()[2]),)
            return
        if kind == "error":
            man.failures = frozenset(n + 1 for n in man.failures)
        if kind != "dying" and self._is_too_often(man):
            man.rest = "failed"
            if self.on_failed == "fatal":
                self._condemn(run)
            return
        if kind == "bounce":
            man.delay = (self.now + policy.bounce_delay,)
            return
        man.jitter = policy.jitter
        man.delay = tuple(
            self.now + min(policy.error_delay * policy.factor ** (max(n, 1) - 1), policy.max_delay)
            for n in sorted(man.failures)
        )

    def _count_health(self, man: Man, run: Run) -> None:
        if run.ready is None:
            return
        least = (self.now if run.unwell is None else run.unwell) - run.ready
        if least >= man.policy.reset_after:
            man.failures = frozenset({0})
        elif self.now - run.ready >= man.policy.reset_after:
            man.failures |= {0}

    def _is_too_often(self, man: Man) -> bool:
        policy = man.policy
        if policy.max_restarts is None:
            return False
        man.times = [t for t in man.times if self.now - t < policy.period] + [self.now]
        return len(man.times) > policy.max_restarts

    def _condemn(self, run: Run) -> None:
        leaves = list(run.leaves if run.filtered is None else run.filtered)
        self.fatal += leaves
        interrupts = [leaf for leaf in self.fatal if leaf.startswith("interrupt")]
        if len(interrupts) > 1 and any(leaf in leaves for leaf in interrupts):
            self.panic = True
        self._close()


def _reaches(graph: Mapping[str, Iterable[str]], start: str, end: str) -> bool:
    seen, queue = set[str](), list(graph.get(start, ()))
    while queue:
        name = queue.pop()
        if name == end:
            return True
        if name not in seen:
            seen.add(name)
            queue.extend(graph.get(name, ()))
    return False


def expected(history: History, policy: Policy, *, on_failed: str = "report") -> Model:
    """Return what `history` leads to.

    Raises:
        Wrong: something in it is against a rule.
    """
    model = Model(policy, on_failed=on_failed)
    for entry in history:
        model.feed(dataclasses.replace(entry))
    return model
