"""What we test workers with, and what you may test yours with.

Three kinds of thing, none of which needs a particular test framework:

- **Checks**: `check_alive`, `check_killed`, `clean_kill`, `dirty_kill`. They know nothing of a
  worker but ``kill()`` and ``wait()``, and never hang. `check_worker` puts workers of yours through
  all that holds of every worker.
- **Doubles**: `ErrorWorker`, `DeadWorker`, `ForeverWorker`, `FakeWatcher`: workers that do one
  thing on demand, some of them rudely. `StubGetter` stands in for an engine before a start
  function, `ManifoldHarness` for a worker before an engine, and `StubFacade` for whoever a worker
  asks.
- **Running**: `open_engine`, an engine for the length of a block.

**Absence is asserted without waiting.** "It did not end", "nothing was started" can be known as
soon as nothing happens any more: every task but ours is blocked. That is what
`trio.testing.wait_all_tasks_blocked` waits for, and what `check_alive` and
`ManifoldHarness.assert_no_start` rest on. It takes no time, on any clock.

**Presence is waited for within a bound**, in seconds on Trio's clock or on the wall's, whichever
is over first. So under an autojumping `trio.testing.MockClock` a failure is found at once, and with
a clock that stands still it is found nevertheless.
"""

from .._util import settle_names as _settle_names
from ._checks import (
    check_alive as check_alive,
    check_killed as check_killed,
    clean_kill as clean_kill,
    dirty_kill as dirty_kill,
)
from ._conformance import check_worker as check_worker
from ._engine import open_engine as open_engine
from ._facade import StubFacade as StubFacade
from ._getter import Faces as Faces, StubGetter as StubGetter
from ._harness import ManifoldHarness as ManifoldHarness
from ._watcher import FakeWatcher as FakeWatcher
from ._workers import (
    DeadWorker as DeadWorker,
    ErrorWorker as ErrorWorker,
    ForeverWorker as ForeverWorker,
)

__all__ = [
    "DeadWorker",
    "ErrorWorker",
    "Faces",
    "FakeWatcher",
    "ForeverWorker",
    "ManifoldHarness",
    "StubFacade",
    "StubGetter",
    "check_alive",
    "check_killed",
    "check_worker",
    "clean_kill",
    "dirty_kill",
    "open_engine",
]

_settle_names(__name__, globals())
