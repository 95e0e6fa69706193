"""The files that the demo drops, and the manifest that says which these were.

A file's content follows from the seed, the number of the run and its own number, so a predecessor's
that never arrived whole can be made again. The manifest has a line for each file, written before
the file is: what it says is what the verdict holds against the database.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from .folder import Folder, about, is_file, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MALFORMED_EVERY = 40


@final
@attrs.frozen
class Dropped:
    """One line of the manifest: a file of the demo's own."""

    seed: int
    run: int
    number: int
    sha256: str

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.run:03}-{self.number:05}.jsonl"

    @property
    def is_good(self) -> bool:
        """Whether it can be stored."""
        return self.number % MALFORMED_EVERY != 0

    @property
    def data(self) -> bytes:
        """What is in it."""
        return content(self.seed, self.run, self.number)


def content(seed: int, run: int, number: int) -> bytes:
    """Return what is in a file; no two have the same content, and no two rows either."""
    draw = random.Random(f"{seed}/{run}/{number}")
    rows = [
        json.dumps({"id": f"{run}/{number}/{row}", "value": draw.randrange(10**6)})
        for row in range(draw.randint(2, 20))
    ]
    if number % MALFORMED_EVERY == 0:
        broken = [rows[-1][:-3], "[1, 2, 3]", "no JSON at all"]
        rows.insert(draw.randrange(len(rows)), draw.choice(broken))
    return "".join(f"{row}\n" for row in rows).encode()


@final
class Manifest:
    """What was dropped so far: a file of JSON lines, only ever added to.

    Attributes:
        path: where it is.
    """

    def __init__(self, folder: Folder) -> None:
        self.path = folder.root / "manifest.jsonl"

    def read(self) -> list[Dropped]:
        """Return all of it, oldest first.

        Raises:
            ForeignManifest: somebody else has written in it.
        """
        if not self.path.exists():
            return []
        return list(_read(self.path))

    def add(self, dropped: Dropped) -> None:
        """Add a line. Once this returns, not even ``kill -9`` takes it back."""
        line = json.dumps(attrs.asdict(dropped)).encode()
        # Buffered, because a bare write may write a part, on a full disk, and not say so.
        with about(self.path), self.path.open("ab") as file:
            file.write(b"\n" + line)  # the newline first: what a torn line leaves stays its own


class ForeignManifest(Exception):
    """There is a line in the manifest that the demo has not written; the message says which."""


def _read(path: Path) -> Iterator[Dropped]:
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            fields: Any = json.loads(line)
        except ValueError:
            continue  # empty, or torn: then its file was never written
        try:
            yield Dropped(**fields)
        except TypeError:
            raise ForeignManifest(f"line {number}: the demo has not written that") from None


@final
class Dropper:
    """Lets files arrive, as other programs would."""

    def __init__(self, folder: Folder, seed: int) -> None:
        self._folder = folder
        self._manifest = Manifest(folder)
        self._seed = seed
        self._run = 1 + max((dropped.run for dropped in self._manifest.read()), default=0)

    def mend(self) -> int:
        """Let those arrive that a run which was killed did not get to; return how many."""
        places = (self._folder.inbox, self._folder.work, self._folder.done, self._folder.bad)
        files = [path for place in places for path in place.iterdir() if is_file(path)]
        there = {sha256_of(path.read_bytes()) for path in files}
        missing = [dropped for dropped in self._manifest.read() if dropped.sha256 not in there]
        for dropped in missing:
            self._rename_into_place(dropped)
        return len(missing)

    async def drop(self, count: int, seconds: float) -> None:
        """Let `count` files arrive at random moments of the next `seconds`."""
        draw = random.Random(f"{self._seed}/{self._run}")
        began = trio.current_time()
        # Not up to the very end, so that chaos meets the last ones as well.
        moments = sorted(draw.uniform(0, 0.95 * seconds) for _ in range(count))
        for number, moment in enumerate(moments, start=1):
            await trio.sleep_until(began + moment)
            sha256 = sha256_of(content(self._seed, self._run, number))
            dropped = Dropped(self._seed, self._run, number, sha256)
            self._manifest.add(dropped)
            way: Callable[[Dropped], None] = draw.choice([self._write, self._rename_into_place])
            way(dropped)

    def _write(self, dropped: Dropped) -> None:
        """Write it where it is to be: whole when it is closed."""
        self._folder.inbox.mkdir(exist_ok=True)
        path: Path = self._folder.inbox / dropped.name
        with about(path):
            path.write_bytes(dropped.data)

    def _rename_into_place(self, dropped: Dropped) -> None:
        """Write it elsewhere, and rename it: whole whenever it is seen."""
        self._folder.inbox.mkdir(exist_ok=True)
        draft: Path = self._folder.spool / dropped.name
        with about(draft):
            draft.write_bytes(dropped.data)
        draft.replace(self._folder.inbox / dropped.name)
