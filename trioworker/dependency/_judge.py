"""From what left a run to how it counts: the seam where foreign code is asked.

``filter`` and ``is_fatal`` are the user's. Whatever they do, an answer comes out: a filter that
raises replaces the error by its own, an ``is_fatal`` that raises is fatal, and the original stays
reachable as context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._groups import leaves, set_context
from ._config import never
from ._verdicts import Kind, judged

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._config import EngineConfig
    from ._manifold import Manifold


def judge(
    exc: BaseException | None, manifold: Manifold, config: EngineConfig
) -> tuple[Kind, BaseException | None]:
    """Return how the end of a run counts, and the error it counts for, if any.

    Args:
        exc: what left the run, without ``Cancelled``; ``None`` if nothing did.
        manifold: whose filter is asked first.
        config: whose filter is asked second, and whose ``is_fatal`` judges what is left.
    """
    for translate in (manifold.filter, config.filter):
        if translate is not None and isinstance(exc, Exception):
            exc = _translated(exc, translate)
    if exc is None:
        return Kind.RETURNED, None
    kind = judged(exc)[0]
    if kind is not Kind.FATAL and config.is_fatal is not never:
        try:
            fatal = any(config.is_fatal(leaf) for leaf in leaves(exc))
        except BaseException as err:  # noqa: BLE001 - foreign code; its error is fatal, and kept
            return Kind.FATAL, _after(err, exc)
        if fatal:
            kind = Kind.FATAL
    return kind, exc


def worst(
    errors: list[BaseException], worse: Callable[[BaseException, BaseException], BaseException]
) -> list[BaseException]:
    """Return `errors` with the worst first; the others keep their order.

    The first `KeyboardInterrupt` or other non-``Exception`` is the worst, without asking anybody. A
    ``worse`` that raises, or that makes up a third error, leaves the order alone, and its own error
    comes last.
    """
    interrupts = [error for error in errors if not isinstance(error, Exception)]
    if interrupts:
        chosen = interrupts[0]
        return [chosen, *(error for error in errors if error is not chosen)]
    if not errors:
        return []
    chosen = errors[0]
    extra: list[BaseException] = []
    try:
        for error in errors[1:]:
            choice = worse(chosen, error)
            if choice is chosen or choice is error:
                chosen = choice
            else:
                msg = f"worst_error(a, b) must return a or b, not {choice!r}"
                extra.append(TypeError(msg))
    except BaseException as err:  # noqa: BLE001 - foreign code; its error is kept with the others
        extra.append(err)
    return [chosen, *(error for error in errors if error is not chosen), *extra]


def _translated(
    exc: Exception, translate: Callable[[Exception], BaseException | None]
) -> BaseException | None:
    try:
        translated: object = translate(exc)
    except BaseException as err:  # noqa: BLE001 - foreign code; its error replaces ours
        return _after(err, exc)
    if translated is None or isinstance(translated, BaseException):
        return translated
    msg = f"filter must return an exception or None, not {translated!r}"
    return _after(TypeError(msg), exc)


def _after(err: BaseException, original: BaseException) -> BaseException:
    """Return `err`, at the end of whose contexts `original` is, unless one led to the other."""
    contexts = _contexts(err)
    if contexts.keys().isdisjoint(_contexts(original)):
        set_context(contexts.popitem()[1], original)
    return err


def _contexts(exc: BaseException | None) -> dict[int, BaseException]:
    """Return `exc`, its context, the context of that and so on, by their ids; a cycle once."""
    found: dict[int, BaseException] = {}
    while exc is not None and id(exc) not in found:
        found[id(exc)] = exc
        exc = exc.__context__
    return found
