"""Where log records of an agent go: to standard error, masked, as lines to read or as JSON.

The library logs through the standard ``logging``; so may workers, and through structlog if they
like. With structlog installed it renders both; without it there are plain lines, and JSON made of
the same few fields. Whoever decides on an error logs it, once: here nothing is added but the name
of the manifold on whose behalf the line was written.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, final

from trioworker.dependency import current_manifold

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import TextIO

    _Processor = Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]

Mask = Callable[[str], str]
Style = Literal["console", "json"]

_ENGINE = "trioworker.engine."  # and the name of the manifold that its lines are about


def configure_logging(
    style: Style = "console", *, level: int | str = logging.INFO, mask: Mask = str
) -> None:
    """Send the log of this process to standard error; replaces what was set up before.

    Lines that were written on behalf of a manifold have its name as `manifold`; on the console
    those of the engine's own logger have not, because it is called after the manifold.

    Args:
        style: ``console``, lines for people; or ``json``, one object in each line.
        level: the lowest level that is shown.
        mask: changes every text before it is shown; see `Agent.mask`.
    """
    handler = _StderrHandler()
    try:
        handler.setFormatter(_structured(style, mask))
    except ModuleNotFoundError as exc:
        if exc.name != "structlog":
            raise
        handler.setFormatter(_plain(style, mask))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


@final
class _StderrHandler(logging.StreamHandler[Any]):
    """Writes to what ``sys.stderr`` is now: a live table redirects it, to stand below."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr


def _structured(style: Style, mask: Mask) -> logging.Formatter:
    import structlog  # noqa: PLC0415 - of the extra "cli", and 40 ms

    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        stamp,
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    if style == "json":
        renderer: Any = structlog.processors.JSONRenderer(default=repr)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # Not rich's: it would show local variables, and those hold secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            _naming(in_all=style == "json"),
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _masking(mask, escape=style == "console"),
            renderer,
        ],
    )


def _manifold_of(record: logging.LogRecord, *, in_all: bool = True) -> str | None:
    """Return the manifold that `record` is about, while it is being written.

    Args:
        record: of any logger.
        in_all: whether to tell it of the engine's lines too, whose logger's name ends with it.
    """
    if record.name.startswith(_ENGINE):
        return record.name.removeprefix(_ENGINE) if in_all else None
    return current_manifold()


def _naming(*, in_all: bool) -> _Processor:
    def process(
        logger: Any,  # noqa: ARG001 - the signature of a processor
        method: str,  # noqa: ARG001 - likewise
        event: MutableMapping[str, Any],
    ) -> MutableMapping[str, Any]:
        name = _manifold_of(event["_record"], in_all=in_all)
        if name is not None:
            event.setdefault("manifold", name)
        return event

    return process


def _masking(mask: Mask, *, escape: bool) -> _Processor:
    def process(
        logger: Any,  # noqa: ARG001 - the signature of a processor
        method: str,  # noqa: ARG001 - likewise
        event: MutableMapping[str, Any],
    ) -> MutableMapping[str, Any]:
        return {
            key: value if key in {"level", "timestamp"} else _masked(value, mask, escape=escape)
            for key, value in event.items()
        }

    return process


def _masked(value: Any, mask: Mask, *, escape: bool) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        text = mask(str(value))
        return value if text == str(value) else text
    text = mask(value if isinstance(value, str) else repr(value))
    return _printable(text) if escape else text


def _printable(text: str) -> str:
    """Return `text` with what could move the cursor as escapes; lines stay lines."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _plain(style: Style, mask: Mask) -> logging.Formatter:
    return _PlainJson(mask) if style == "json" else _PlainLines(mask)


@final
class _PlainLines(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__("%(message)s")
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        name = _manifold_of(record, in_all=False)
        source = record.name if name is None else f"{record.name} ({name})"
        head = f"{self.formatTime(record)} [{record.levelname.lower():<8}] {source}: "
        return head + _printable(self._mask(super().format(record)))


@final
class _PlainJson(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "event": self._mask(record.getMessage()),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": self.formatTime(record),
        }
        if (name := _manifold_of(record)) is not None:
            event["manifold"] = name
        if record.exc_info:
            event["exception"] = self._mask(self.formatException(record.exc_info))
        return json.dumps(event)
