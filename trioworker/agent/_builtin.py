"""The manifold ``engine``, which an agent program has without its file saying so.

It is there if a manifold of the file names it among its inputs, and the file has none of that name.
It offers the engine itself (`self_manifold`) and what the introspection needs beyond that: all
transitions since the beginning, metrics, and the mask, because what came from the environment is
not to be shown on a page either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from trioworker import Engine, EngineConfig, Manifold, self_manifold
from trioworker.workers.agent.introspection import Exposition, Masking, Recorder
from trioworker.workers.agent.metrics import PrometheusMetrics

ENGINE = "engine"


def is_wanted(manifolds: Mapping[str, Manifold]) -> bool:
    """Whether `manifolds` name an ``engine`` that is not one of them."""
    return ENGINE not in manifolds and any(
        ENGINE in one.bound((*one.inputs, *one.optional, *one.live)) for one in manifolds.values()
    )


def engine_offering_itself(config: EngineConfig, mask: Callable[[str], str]) -> Engine:
    """Return a new engine with the manifold ``engine`` in it."""
    metrics = config.metrics or PrometheusMetrics()
    config = attrs.evolve(config, metrics=metrics)
    engine = Engine(config)
    faces: dict[Any, object] = {Recorder: Recorder(engine), Masking: mask}
    if hasattr(metrics, "parts"):  # else it is the program's own, and not for Prometheus
        faces[Exposition] = metrics
    manifold = self_manifold(engine)
    outputs = {**manifold.outputs, **{face: _always(value) for face, value in faces.items()}}
    engine.install(ENGINE, attrs.evolve(manifold, outputs=outputs))
    return engine


def _always(value: object) -> Callable[[Any], object]:
    return lambda started: value  # noqa: ARG005 - there is one for each engine
