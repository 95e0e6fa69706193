"""What can go wrong, and whose doing it was.

::

    TrioworkerError
    ├── Dying                   refused: what you talk to is stopping or has stopped
    ├── MisuseError             your code: the message shows the right call
    │   ├── LifetimeError       entered twice, added before its time, a getter used after its run
    │   ├── AlreadyExists       that name is taken
    │   ├── NotFound            nothing has that name
    │   ├── CycleError          manifolds that wait for each other
    │   ├── UnknownInput        an input that nothing provides
    │   ├── NotDeclared         a start function asked for what it did not declare
    │   └── NotOffered          an output was asked for as a type it does not offer
    ├── StartTimeout            a start function did not call started() in time
    ├── WatcherClosed           a watcher's channel ended while somebody still listened
    ├── TearDownTimeout         a tear_down() did not end in time
    └── InternalError           ours: please report it

The verdicts of a manifold (``Bounce``, ``Missing``, ``RetryAfter``, ``Uninstall``) are no faults:
they live in ``trioworker.dependency``.
"""

from __future__ import annotations


class TrioworkerError(Exception):
    """The base of every fault that trioworker reports."""


class Dying(TrioworkerError):
    """Refused, because what was asked is dying or dead: find another, or give up.

    Clients get it from ``while_alive()``, from ``add()`` and ``start()`` of a catacomb, and from
    the verbs of a runner or engine that is stopping.

    Attributes:
        owner: the tomb whose life is over. A tomb knows its own ``Dying`` by it and does not take
            it for a reason; anybody else's is an ordinary error.
    """

    def __init__(self, message: str, owner: object = None) -> None:
        super().__init__(message)
        self.owner = owner


class MisuseError(TrioworkerError):
    """The caller's code is wrong; the message shows the way out."""


class LifetimeError(MisuseError, RuntimeError):
    """Something was used before or after its time, or twice."""


class AlreadyExists(MisuseError, ValueError):
    """The name is taken: wait until it is free, or choose another."""


class NotFound(MisuseError, LookupError):
    """Nothing has this name, or it was removed meanwhile."""

    # LookupError, not KeyError: a KeyError would show its message in quotes.


class CycleError(MisuseError, ValueError):
    """Manifolds that wait for each other, so that none could ever start.

    Attributes:
        path: the names along the cycle, the first repeated at the end.
    """

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class UnknownInput(MisuseError, LookupError):
    """Manifolds name inputs that nothing provides."""


class NotDeclared(MisuseError, LookupError):
    """A start function asked for an input that its manifold does not declare: a bug, not a wait."""


class NotOffered(MisuseError, TypeError):
    """An input does not hand out the type it was asked for; the message lists those it does."""


class StartTimeout(TrioworkerError):
    """A start function was cancelled because it did not call ``started()`` in time."""


class WatcherClosed(TrioworkerError):
    """A watcher's channel was closed although nobody had asked it to stop."""


class TearDownTimeout(TrioworkerError):
    """A handler's ``tear_down()`` was cut short because it did not end in time."""


class InternalError(TrioworkerError):
    """trioworker contradicted itself: please report it, with the traceback."""
