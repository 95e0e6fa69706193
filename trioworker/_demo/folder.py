"""The directory that the demo works in: which file is where, and how one is moved. All sync.

Every step is one rename within one file system, so that at any moment a file is in exactly one
place, whole.
"""

from __future__ import annotations

import hashlib
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, final

import attrs

from trioworker.backends.inotify import is_being_written

if TYPE_CHECKING:
    from collections.abc import Generator


@final
@attrs.frozen
class Folder:
    """The demo's directory; `create` makes what it is made of."""

    root: Path

    @property
    def inbox(self) -> Path:
        """Where files arrive."""
        return self.root / "inbox"

    @property
    def work(self) -> Path:
        """Where `ingest` has the file that it is dealing with."""
        return self.root / "work"

    @property
    def done(self) -> Path:
        """Where files are whose rows are stored."""
        return self.root / "done"

    @property
    def bad(self) -> Path:
        """Where files are that cannot be stored, each with its reason beside it."""
        return self.root / "bad"

    @property
    def spool(self) -> Path:
        """Where files are written that are to be renamed into the inbox."""
        return self.root / "spool"

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.root / "demo.db"

    def create(self) -> None:
        """Make the directories that are not there yet."""
        for directory in (self.inbox, self.work, self.done, self.bad, self.spool):
            directory.mkdir(parents=True, exist_ok=True)

    def arrived(self) -> list[str]:
        """Return the names of the whole files in the inbox.

        One that somebody is still writing is not among them: inotify will tell when it is closed.
        """
        return sorted(filter(self.has_arrived, names_in(self.inbox)))

    def has_arrived(self, name: str) -> bool:
        """Whether `name` is a file in the inbox, visible and whole; not so a pipe, say."""
        path = self.inbox / name
        try:
            return is_file(path) and not name.startswith(".") and not is_being_written(path)
        except FileNotFoundError:
            return False  # claimed meanwhile
        except PermissionError:
            return True  # nobody can tell; who reads it will

    def claim(self, name: str) -> Path | None:
        """Take the file `name` out of the inbox; ``None`` if it is not there any more."""
        path = self.work / name
        if path.exists():
            raise FileExistsError(f"{path} is not dealt with yet")
        try:
            (self.inbox / name).rename(path)
        except FileNotFoundError:
            return None
        return path

    def claimed(self) -> list[Path]:
        """Return the files that were claimed and not dealt with."""
        return sorted(filter(is_file, self.work.iterdir()))

    def finish(self, path: Path, sha256: str) -> Path:
        """Move a claimed file to ``done/``."""
        return path.replace(free_name(self.done, path.name, sha256))

    def reject(self, path: Path, sha256: str, reason: str) -> Path:
        """Move a claimed file to ``bad/``, having put `reason` beside where it will be."""
        target = free_name(self.bad, path.name, sha256)
        with about(reason_of(target)):
            reason_of(target).write_text(f"{reason}\n", encoding="utf-8")
        return path.replace(target)


@contextmanager
def about(path: Path) -> Generator[None]:
    """Let every error of the block name `path`: one from writing, on a full disk, does not."""
    try:
        yield
    except OSError as exc:
        if exc.filename is None:
            exc.filename = str(path)
        raise


def names_in(directory: Path) -> list[str]:
    """Return the names of all that is in `directory`; none if it is not there."""
    return [path.name for path in paths_in(directory)]


def paths_in(directory: Path) -> list[Path]:
    """Return the paths of all that is in `directory`, sorted; none if it is not there."""
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


def is_file(path: Path) -> bool:
    """Whether `path` itself, not what it may link to, is a regular file."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def reason_of(path: Path) -> Path:
    """Return where the reason for rejecting `path` stands."""
    return path.with_name(f"{path.name}.reason")


def free_name(directory: Path, name: str, sha256: str) -> Path:
    """Return where a file of this name and content can be put, without replacing another content.

    Another file of the same name gets a part of its hash into its name; a third with that name too
    has the same content.
    """
    path = directory / name
    if path.exists() or path.is_symlink():
        path = path.with_name(f"{path.stem}.{sha256[:16]}{path.suffix}")
    return path


def sha256_of(data: bytes) -> str:
    """Return what identifies a content."""
    return hashlib.sha256(data).hexdigest()


def inode_of(path: Path) -> str:
    """Return what tells a file apart whose content cannot be read."""
    return f"inode-{path.lstat().st_ino}"
