"""Six processes race for one lease on each shared store, and nothing is ever held twice.

``TRIOWORKER_SEED=123`` breaks the same things in the same order. What is checked, and how a slow
machine is told from a slow hand-over: `history`. What is broken, and when: `race`.
"""

import os
import random
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("processes are stopped and looked at as Linux does", allow_module_level=True)

from .history import figures, hands_changed, problems
from .race import Race
from .stores import STORES

pytestmark = pytest.mark.full


@pytest.mark.parametrize("store", STORES)
async def test_whatever_breaks_there_is_one_holder_and_soon_another(
    store: str, tmp_path: Path, tier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("TRIOWORKER_SEED") or random.SystemRandom().randrange(10**6))
    print(f"to repeat it: TRIOWORKER_SEED={seed}")  # noqa: T201 - shown when a test fails
    seconds = 60 if tier == "long" else 13
    history = await Race(store, tmp_path, random.Random(f"{store} {seed}")).run(seconds)

    told = ", ".join(f"{name}: {value}" for name, value in figures(history).items())
    with capsys.disabled():
        print(f"\n  leases on {store}: {told}")  # noqa: T201 - what was asked for
    assert not problems(history)
    assert hands_changed(history)
    assert any(one.is_accepted for one in history.written)
