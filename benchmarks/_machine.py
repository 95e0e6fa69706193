"""What the numbers were taken on, without naming the machine."""

from __future__ import annotations

import gc
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import trio

import trioworker


def machine() -> dict[str, object]:
    """Describe it, and what runs on it."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "trio": trio.__version__,
        "trioworker": trioworker.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": None if load is None else round(load, 2),
        "gc": f"on, thresholds {gc.get_threshold()}" if gc.isenabled() else "off",
    }


def processor() -> str:
    """Return the processor's model, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
