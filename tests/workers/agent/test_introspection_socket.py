"""Where a program's socket lies, and who may not have been there before."""

import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest

from trioworker.workers.agent.introspection import SocketInUse, socket_path, sockets
from trioworker.workers.agent.introspection._socket import bound_socket, leave_socket

UID = os.getuid()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return socket_path("demo", {"XDG_RUNTIME_DIR": str(tmp_path)}, UID)


def test_it_lies_in_the_runtime_directory_if_there_is_one() -> None:
    assert socket_path("shop", {"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == Path(
        "/run/user/7/trioworker/shop.sock"
    )


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "here"}])
def test_else_in_a_directory_of_the_user_s_own(environ: dict[str, str]) -> None:
    assert socket_path("shop", environ, 7) == Path("/tmp/trioworker-7/shop.sock")


@pytest.mark.parametrize("name", ["../../etc/x", "..", "a/b"])
def test_a_name_cannot_lead_out_of_the_directory(name: str) -> None:
    assert socket_path(name, {}, 7).parent == Path("/tmp/trioworker-7")


def test_only_its_user_can_reach_it(path: Path) -> None:
    with bound_socket(path, UID):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_directory_of_somebody_else_is_refused(path: Path) -> None:
    path.parent.mkdir(mode=0o700)

    with pytest.raises(PermissionError, match=f"belongs to user {UID}"):
        bound_socket(path, UID + 1)
    assert not path.exists()


def test_a_link_to_a_directory_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    path.parent.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PermissionError, match="is no directory"):
        bound_socket(path, UID)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_directory_that_is_open_to_others_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o750)

    with pytest.raises(PermissionError, match="mode 0750"):
        bound_socket(path, UID)


def test_a_socket_that_nobody_listens_on_is_replaced(path: Path) -> None:
    bound_socket(path, UID).close()
    assert path.exists()

    with bound_socket(path, UID), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_one_that_somebody_listens_on_is_an_error_that_names_the_process(path: Path) -> None:
    with bound_socket(path, UID):
        with pytest.raises(SocketInUse, match=f"process {os.getpid()} listens on"):
            bound_socket(path, UID)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_in_its_place_is_left_alone(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_text("mine")

    with pytest.raises(PermissionError, match="no socket"):
        bound_socket(path, UID)
    assert path.read_text() == "mine"


def test_a_path_that_is_too_long_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long for a Unix socket"):
        bound_socket(tmp_path / ("x" * 200), UID)


def test_those_that_listen_are_listed_by_name(path: Path, tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert sockets(environ, UID) == {}
    other = socket_path("a/b", environ, UID)
    bound_socket(path, UID).close()

    with bound_socket(other, UID):
        assert sockets(environ, UID) == {"a/b": other}


def test_one_whose_queue_is_full_is_listened_on(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(path))
        with pytest.raises(SocketInUse, match="another process listens on"):
            bound_socket(path, UID)


def test_while_another_program_opens_one_nobody_waits_for_it(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(SocketInUse, match="another program is opening a socket there"):
            bound_socket(path, UID)
    finally:
        os.close(fd)
    bound_socket(path, UID).close()


def test_leaving_removes_our_own_socket_and_no_later_one(path: Path) -> None:
    with bound_socket(path, UID):
        inode = path.stat().st_ino
        leave_socket(path, UID, inode + 1)
        assert path.exists()
        leave_socket(path, UID, inode)
        assert not path.exists()
    leave_socket(path, UID, inode)  # no error
