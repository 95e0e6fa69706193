"""inotify after its end, and where a limit is reached."""

import errno
import resource
import sys
from pathlib import Path

import pytest
import trio

from trioworker.backends.inotify import watch_directory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


async def test_after_closing_there_are_no_events(tmp_path: Path) -> None:
    events = watch_directory(tmp_path)
    events.close()

    with pytest.raises(trio.ClosedResourceError):
        await anext(events)
    assert repr(events) == f"<DirectoryEvents of {str(tmp_path)!r}, closed>"


async def test_too_many_open_files_are_told_with_both_limits_that_it_may_be(
    tmp_path: Path,
) -> None:
    """The kernel does not say whether it is the limit of this process or that of inotify."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"Too many open files; or .*max_user_instances"
        ) as caught:
            watch_directory(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert caught.value.errno == errno.EMFILE
    assert caught.value.filename == str(tmp_path)
