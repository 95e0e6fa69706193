"""The demos of these tests listen where nobody else does, and leave nothing there when killed."""

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def runtime_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory of the test's own for sockets; a short one: their paths may not be long."""
    with tempfile.TemporaryDirectory(prefix="tw-", ignore_cleanup_errors=True) as place:
        monkeypatch.setenv("XDG_RUNTIME_DIR", place)
        yield
