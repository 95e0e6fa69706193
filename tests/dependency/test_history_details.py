"""What is kept of an end, and the line of the log that tells it and what follows, word for word."""

import logging
from collections.abc import Iterator

import pytest

from trioworker.dependency._history import log, log_stuck, record, what_ended
from trioworker.dependency._manifold import Manifold
from trioworker.dependency._node import Node, Run
from trioworker.dependency._states import Event, State
from trioworker.dependency._verdicts import Kind


@pytest.mark.parametrize(
    "event, delay, follows",
    [
        (Event.LATER, 2.5, "starts again in 2.5 s"),
        (Event.AGAIN, 0.0, "starts again when its inputs allow"),
        (Event.RETURN, 0.0, "is done"),
        (Event.GIVE_UP, 0.0, "was restarted too often: it stays failed"),
        (Event.HOLD, 0.0, "is held"),
        (Event.SHUT_DOWN, 0.0, "is stopped with its engine"),
        (Event.REMOVE, 0.0, "is uninstalled"),
    ],
)
def test_the_log_says_what_follows_an_end(
    event: Event, delay: float, follows: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error = OSError("gone")
    log(Node("db"), Kind.ERROR, error, event, delay)
    log(Node("db"), Kind.MISSING, error, event, delay)
    log(Node("db"), Kind.RETURNED, None, event, delay)

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, f'"db" manifold failed, and {follows}: OSError: gone'),
        (logging.INFO, f'"db" manifold ended, and {follows}: OSError: gone'),
        (logging.DEBUG, f'"db" manifold returned, and {follows}'),
    ]


@pytest.mark.parametrize(
    "kind, level, has_traceback",
    [
        (Kind.FATAL, logging.ERROR, True),
        (Kind.ERROR, logging.ERROR, True),
        (Kind.DYING, logging.INFO, False),
        (Kind.UNINSTALL, logging.INFO, False),
        (Kind.MISSING, logging.INFO, False),
        (Kind.RETRY, logging.INFO, False),
        (Kind.BOUNCE, logging.INFO, False),
    ],
)
def test_an_end_is_logged_at_the_level_it_deserves(
    kind: Kind, level: int, has_traceback: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error = OSError("gone")
    log(Node("db"), kind, error, Event.AGAIN, 0.0)

    [record] = caplog.records
    assert record.levelno == level
    assert (record.exc_info[1] if record.exc_info else None) is (error if has_traceback else None)


def test_an_interrupt_is_logged_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    log(Node("db"), Kind.FATAL, KeyboardInterrupt(), Event.SHUT_DOWN, 0.0)

    [record] = caplog.records
    assert (record.levelno, record.exc_info) == (logging.ERROR, None)


def test_what_nobody_wants_to_read_is_not_put_into_words(caplog: pytest.LogCaptureFixture) -> None:
    read: list[str] = []

    class Noticing(Exception):
        def __str__(self) -> str:
            read.append("read")
            return "gone"

    caplog.set_level(logging.CRITICAL)
    log(Node("db"), Kind.ERROR, Noticing(), Event.AGAIN, 0.0)

    assert (read, caplog.records) == ([], [])


async def start(get: object, *, task_status: object) -> None:
    """Be of no interest."""


def run_of(node: Node) -> Run:
    return Run(node, Manifold(start), 90.0, (), lambda run, value: None)


@pytest.mark.parametrize(
    "keep, times", [(0, []), (1, [6.0]), (3, [4.0, 5.0, 6.0]), (9, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]
)
def test_the_latest_ends_are_kept_as_many_as_wanted(keep: int, times: list[float]) -> None:
    node = Node("db")
    for now in range(1, 7):
        record(run_of(node), Kind.BOUNCE, None, float(now), keep)

    assert [entry[0] for entry in node.history] == times


def test_only_a_planned_stop_tells_how_long_it_took() -> None:
    node = Node("db")
    node.state, node.since = State.STOPPING, 97.0
    run = run_of(node)
    error = ExceptionGroup("two", [OSError("gone")])
    assert what_ended(run, Kind.ERROR, error, 100.0) == ("db", "error", OSError, None)

    run.planned = True
    assert what_ended(run, Kind.ERROR, error, 100.0) == ("db", "error", OSError, 3.0)
    assert what_ended(run, Kind.RETURNED, None, 100.0) == ("db", "stopped", None, 3.0)


STUCK = (
    '"asked-for" manifold is stuck: cancelled 10.0 s ago and still running; it stands at\n'
    "  an unknown place"
)


@pytest.fixture
def own() -> Iterator[tuple[logging.Logger, list[logging.LogRecord]]]:
    """The logger of one manifold, because somebody asked for it, and what it was given."""
    given: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            given.append(record)

    logger, handler = logging.getLogger("trioworker.engine.asked-for"), Handler()
    logger.addHandler(handler)
    yield logger, given
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    del logging.root.manager.loggerDict[logger.name]


def test_a_logger_that_somebody_asked_for_is_given_the_lines_of_its_manifold(
    own: tuple[logging.Logger, list[logging.LogRecord]], caplog: pytest.LogCaptureFixture
) -> None:
    error = OSError("gone")
    log(Node("asked-for"), Kind.ERROR, error, Event.AGAIN, 0.0)
    log(Node("another"), Kind.ERROR, error, Event.AGAIN, 0.0)

    [record] = own[1]
    assert record.exc_info
    assert record.exc_info[1] is error
    assert [r.name for r in caplog.records] == [
        "trioworker.engine.asked-for",
        "trioworker.engine.another",
    ]


def test_its_level_is_the_one_that_counts(
    own: tuple[logging.Logger, list[logging.LogRecord]], caplog: pytest.LogCaptureFixture
) -> None:
    logger, given = own
    run = run_of(Node("asked-for"))
    logger.setLevel(logging.CRITICAL)
    log(Node("asked-for"), Kind.ERROR, OSError("gone"), Event.AGAIN, 0.0)
    log_stuck(run)
    assert given == []

    logger.setLevel(logging.DEBUG)
    log(Node("asked-for"), Kind.RETURNED, None, Event.RETURN, 0.0)
    log_stuck(run)
    assert [(record.levelno, record.getMessage()) for record in given] == [
        (logging.DEBUG, '"asked-for" manifold returned, and is done'),
        (logging.ERROR, STUCK),
    ]


@pytest.mark.parametrize("kind, error", [(Kind.ERROR, OSError("gone")), (Kind.RETURNED, None)])
def test_a_line_without_a_logger_of_its_own_says_as_much(
    kind: Kind, error: OSError | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log(Node("db"), kind, error, Event.AGAIN, 0.0)

    [record] = caplog.records
    told = (OSError, error, None) if error else None
    assert (record.name, record.exc_info) == ("trioworker.engine.db", told)
    assert (record.filename, record.funcName) == ("_history.py", "_write")
    assert record.lineno > 0
