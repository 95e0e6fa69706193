"""A short directory for sockets: the path of one has at most 107 bytes."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from trioworker._cli import _client


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory in which programs listen by default, and nobody does yet."""
    if sys.platform == "win32":
        pytest.skip("there are no Unix sockets")
    with tempfile.TemporaryDirectory(prefix="tw-") as root:
        place = Path(root) / "trioworker"
        place.mkdir(mode=0o700)

        def only(environ: Mapping[str, str], uid: int) -> list[Path]:
            return [place]

        monkeypatch.setenv("XDG_RUNTIME_DIR", root)
        # And nowhere else: other programs of ours may run on this machine.
        monkeypatch.setattr(_client, "directories", only)
        yield place
