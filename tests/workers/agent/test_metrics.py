"""What Prometheus is told of an engine, parsed as Prometheus would."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

pytest.importorskip("prometheus_client", reason="its parser stands in for Prometheus")

from prometheus_client.parser import text_string_to_metric_families as parsed

from trioworker import Engine, EngineConfig, Getter, Manifold, State, open_worker
from trioworker.dependency import Metrics
from trioworker.workers.agent.metrics import MOST_TYPES, PrometheusMetrics


def samples(metrics: PrometheusMetrics) -> dict[tuple[str, ...], float]:
    families = list(parsed(metrics.text().decode()))
    assert all(family.documentation and family.type != "unknown" for family in families)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def lived(metrics: Metrics) -> None:
    metrics.state("db", State.ABSENT, State.WAITING)
    metrics.state("db", State.WAITING, State.STARTED)
    metrics.start("db", 1)
    metrics.start("db", 2)
    metrics.ready("db", 0.2)
    metrics.end("db", "error", OSError, None)
    metrics.end("db", "stopped", None, 0.5)


def test_runs_are_counted_and_timed() -> None:
    metrics = PrometheusMetrics()
    lived(metrics)
    found = samples(metrics)

    assert found["trioworker_manifold_starts_total", "db"] == 2
    assert found["trioworker_manifold_restarts_total", "db"] == 1
    assert found["trioworker_manifold_failures_total", "db", "OSError"] == 1
    assert found["trioworker_manifold_start_duration_seconds_sum", "db"] == 0.2
    assert found["trioworker_manifold_stop_duration_seconds_sum", "db"] == 0.5
    states = {key[2]: v for key, v in found.items() if key[0] == "trioworker_manifold_state"}
    assert [state for state, value in states.items() if value] == ["started"]


def test_lost_events_and_stalls_of_the_loop_are_counted() -> None:
    metrics = PrometheusMetrics()
    before = samples(metrics)
    metrics.drop()
    metrics.stall(0.5)
    metrics.stall(2.0)
    found = samples(metrics)

    assert before["trioworker_events_dropped_total",] == 0
    assert before["trioworker_loop_stall_seconds_count",] == 0
    assert found["trioworker_events_dropped_total",] == 1
    assert found["trioworker_loop_stall_seconds_count",] == 2
    assert found["trioworker_loop_stall_seconds_sum",] == 2.5


async def test_an_engine_is_counted_to_its_end(autojump_clock: MockClock) -> None:
    async def flaky(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(2)
        task_status.started()
        await trio.sleep(100)
        raise OSError("gone")

    metrics = PrometheusMetrics()
    engine = Engine(EngineConfig(metrics=metrics))
    engine.install("db", Manifold(flaky))
    async with open_worker(engine):
        await trio.sleep(150)
        await wait_all_tasks_blocked()
        found = samples(metrics)
        assert found["trioworker_manifold_starts_total", "db"] == 2
        assert found["trioworker_manifold_restarts_total", "db"] == 1
        assert found["trioworker_manifold_failures_total", "db", "OSError"] == 1
        assert found["trioworker_manifold_start_duration_seconds_sum", "db"] == 4
        assert found["trioworker_manifold_state", "db", "started"] == 1
    found = samples(metrics)
    assert found["trioworker_manifold_state", "db", "stopped"] == 1
    assert found["trioworker_manifold_stop_duration_seconds_count", "db"] == 1


def test_an_uninstalled_manifold_leaves_no_labels() -> None:
    metrics = PrometheusMetrics()
    lived(metrics)
    metrics.state("db", State.STARTED, State.ABSENT)

    assert b'"db"' not in metrics.text()


def test_types_of_exceptions_are_bounded() -> None:
    metrics = PrometheusMetrics()
    for i in range(MOST_TYPES + 5):
        metrics.end("db", "error", type(f"E{i}", (Exception,), {}), None)
    failures = [key for key in samples(metrics) if key[0] == "trioworker_manifold_failures_total"]

    assert len(failures) == MOST_TYPES + 1
    assert samples(metrics)["trioworker_manifold_failures_total", "db", "other"] == 5


@pytest.mark.parametrize("name", ['a"b', "back\\slash", "two\nlines", "ö", "{x}", "a,b", "\ud800"])
def test_any_name_comes_back_from_the_text(name: str) -> None:
    metrics = PrometheusMetrics()
    metrics.start(name, 1)
    shown = name.encode("utf-8", "replace").decode()
    metrics.end(name, "error", type(shown, (Exception,), {}), None)

    assert samples(metrics)["trioworker_manifold_starts_total", shown] == 1
    assert samples(metrics)["trioworker_manifold_failures_total", shown, shown] == 1


def test_the_text_is_what_the_format_asks_for() -> None:
    """As promtool checks: told first, in one block each, no sample twice, buckets that add up."""
    metrics = PrometheusMetrics()
    for name in ("db", "web"):
        metrics.state(name, State.ABSENT, State.WAITING)
        for seconds in (0.0, 0.005, 0.006, 1.0, 61.0):
            metrics.ready(name, seconds)
        metrics.end(name, "error", OSError, 0.5)
    families = list(parsed(metrics.text().decode()))

    assert len({family.name for family in families}) == len(families) == 8
    for family in families:
        assert family.documentation
        seen = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(set(seen)) == len(seen)
        if family.type == "histogram":
            check_histogram(family.samples)
    durations = {
        float(sample.labels["le"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "trioworker_manifold_start_duration_seconds_bucket"
        and sample.labels["manifold"] == "db"
    }
    assert (durations[0.005], durations[0.01], durations[1.0], durations[60.0]) == (2, 3, 4, 4)
    assert durations[float("inf")] == 5


def check_histogram(found: list[Any]) -> None:
    buckets: dict[object, list[tuple[float, float]]] = {}
    counts: dict[object, float] = {}
    for sample in found:
        whose = sample.labels.get("manifold")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(whose, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[whose] = sample.value
    for whose, pairs in buckets.items():
        assert pairs == sorted(pairs)
        assert [value for _, value in pairs] == sorted(value for _, value in pairs)
        assert pairs[-1] == (float("inf"), counts[whose])


def test_one_may_pause_between_the_parts_whatever_comes_and_goes() -> None:
    metrics = PrometheusMetrics()
    for n in range(3):
        metrics.start(f"m{n}", 1)
    text = b""
    for n, part in enumerate(metrics.parts()):
        text += part
        metrics.state("m0", State.STOPPING, State.ABSENT)
        metrics.start(f"new{n}", 1)

    assert len(list(parsed(text.decode()))) == 8
