"""What may happen to an engine: manifolds, plans, orders and verbs, as Hypothesis draws them.

Times are chosen so that no two of them add up to the same: which of two things that are due at once
comes first is nobody's promise.
"""

from __future__ import annotations

from hypothesis import strategies as st

from .engine_model import Policy, Spec
from .engine_world import Kind, Plan

NAMES = "abcdef"

names = st.sampled_from(NAMES)

faults = st.sampled_from(
    [
        "error",
        "error",
        "bounce",
        "missing",
        "uninstall",
        "retry",
        "dying",
        "domain",
        "group error bounce",
        "group missing bounce",
        "group uninstall dying",
        "group retry missing",
    ]
)
rare = st.sampled_from(["fatal", "poison", "interrupt", "group error fatal"])
any_fault = st.integers(0, 24).flatmap(lambda luck: faults if luck else rare)

operator_verbs = st.one_of(
    st.tuples(
        st.sampled_from(["restart", "restart", "hold", "release", "release", "uninstall"]),
        st.tuples(names),
    ),
    st.tuples(st.sampled_from(["restart", "hold", "release", "uninstall"]), st.tuples(names)),
    st.integers(0, 4).map(lambda luck: ("drain", ()) if luck == 0 else ("restart", ("a",))),
)

plans = st.builds(
    Plan,
    begin=st.sampled_from(["ready", "ready", "ready", "late", "hang", "return", "fail", "flash"]),
    fault=any_fault,
    late=st.sampled_from([0.51, 1.83]),
    stop=st.sampled_from(["die", "die", "raise", "linger", "stuck", "swallow"]),
    stop_fault=any_fault,
    ask=st.sampled_from(["ignore", "leave", "raise"]),
    verb=st.none() | operator_verbs,
    stop_verb=st.none() | operator_verbs,
)

orders = st.one_of(
    st.tuples(
        st.just("tell"),
        names,
        st.one_of(
            st.sampled_from([("return",), ("ready",), ("cancel",), ("shield", 0.63), ("live",)]),
            st.tuples(st.just("raise"), any_fault),
            st.tuples(st.just("raise"), any_fault),
            st.tuples(st.just("helper"), st.booleans()),
            st.tuples(st.just("verb"), operator_verbs),
        ),
    ),
    st.tuples(st.just("helper"), names, any_fault | st.just("return")),
    st.tuples(st.just("let go"), names),
    st.tuples(
        st.just("arm"),
        st.sampled_from(["ask", "filter", "engine_filter", "is_fatal", "worst_error"]),
        operator_verbs,
    ),
)
planning = st.tuples(st.just("plan"), names, plans)
endings = st.one_of(
    st.just(("cancel",)),
    st.tuples(
        st.just("verb"),
        st.tuples(
            st.just("kill"),
            st.tuples(st.sampled_from(["", "", "error"]), st.sampled_from([None, 0.0, 0.3])),
        ),
    ),
)
any_action = st.one_of(
    st.tuples(st.just("verb"), operator_verbs), orders, orders, planning, planning
)

policies = st.builds(
    Policy,
    error_delay=st.sampled_from([1.0, 0.3]),
    factor=st.sampled_from([1.5, 1.0]),
    max_delay=st.sampled_from([60.0, 2.0]),
    jitter=st.sampled_from([0.0, 0.1]),
    reset_after=st.sampled_from([60.0, 4.1]),
    bounce_delay=st.sampled_from([0.01, 0.4]),
    max_restarts=st.sampled_from([None, None, 1, 2]),
    period=st.sampled_from([60.0, 3.3]),
)


@st.composite
def kinds_for(draw: st.DrawFn, name: str, *, later: bool) -> Kind:
    """Draw a manifold for `name`: it mostly depends on names before its own.

    Args:
        draw: Hypothesis'.
        name: what it is to be called.
        later: whether it may depend on what was not installed before, or even on itself.
    """
    before = [other for other in NAMES if other < name]
    odd = later and draw(st.integers(0, 4)) == 0
    pool = [*NAMES] if odd else before
    ways: dict[str, list[str]] = {"inputs": [], "optional": [], "live": []}
    for other in draw(st.lists(st.sampled_from(pool), unique=True, max_size=3)) if pool else ():
        ways[draw(st.sampled_from(["inputs", "inputs", "inputs", "optional", "live"]))].append(
            other
        )
    if draw(st.integers(0, 3)) == 0:
        ways["live"] += draw(st.sampled_from([*NAMES]).map(list))
    taken = ways["inputs"] + ways["optional"]
    live = tuple(dict.fromkeys(n for n in ways["live"] if n not in taken))
    has_ask = draw(st.integers(0, 2)) == 0
    how = draw(st.sampled_from(["none", "none", "translate", "drop", "break"]))
    spec = Spec(
        filter=how != "none",
        inputs=tuple(ways["inputs"]),
        optional=tuple(ways["optional"]),
        live=live,
        ask=has_ask,
        grace=draw(st.sampled_from([0.0, 0.9, 5.3])) if has_ask else 0.0,
        start_timeout=draw(st.sampled_from([None, None, 1.13])),
        stop_timeout=draw(st.sampled_from([10.0, 0.41, None])),
        policy=draw(st.none() | policies),
    )
    return Kind(spec, how)
