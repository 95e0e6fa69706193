"""A program in a process of its own, and a browser that looks at its page.

The browser and its driver are the system's own (Debian: ``chromium`` and ``chromium-driver``);
nothing is ever downloaded. Without them the tests are skipped, or, if ``REQUIRE_BROWSER=1``, fail.
"""

import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

T = TypeVar("T")

# That is no test, and only to be run when pictures are wanted.
collect_ignore = [] if os.environ.get("SCREENSHOTS") else ["test_screenshots.py"]

TOKEN = "0123456789abcdef"
PATIENCE = 20.0
"""Seconds until something must have happened, on a busy machine."""
NASTY = '<img src=x onerror="document.title=1"><script>document.title=2</script>'

MANIFOLDS: dict[str, dict[str, Any]] = {
    "clock": {},
    "settings": {"says": {"source": "shop.toml"}},
    "db": {"inputs": ["clock"], "says": {"path": "shop.db", "journal": "wal"}},
    "stock": {"inputs": ["db"]},
    "prices": {"inputs": ["db"], "live": ["settings"]},
    "orders": {"inputs": ["stock", "prices", "db"]},
    "web": {"inputs": ["orders", "clock"], "live": ["settings"]},
}


def wait_for(what: Callable[[], T | None], *, within: float = PATIENCE) -> T:
    """Return what `what` returns as soon as that is true."""
    end = time.monotonic() + within
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {found!r}")
        time.sleep(0.02)


@attrs.frozen
class Program:
    """A running program."""

    url: str
    socket: Path
    directory: Path

    def crash(self, name: str, message: str) -> None:
        """Let a manifold fail."""
        half = self.directory / "half"
        half.write_text(message, encoding="utf-8")
        half.rename(self.directory / name.encode().hex())

    def ask(self, method: str, path: str) -> Any:
        """Ask the program on its socket."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE)
            asking.connect(str(self.socket))
            connection = http.client.HTTPConnection("localhost")
            connection.sock = asking
            connection.request(method, path)
            with connection.getresponse() as response:
                return json.load(response)

    def report(self) -> dict[str, Any]:
        """Return what the program says itself."""
        found: dict[str, Any] = self.ask("GET", "/report")
        return found

    def reached(self, name: str, starts: int) -> bool:
        """Whether `name` is started for at least so many times; also if nobody answers."""
        try:
            one = self.one(name)
        except OSError:
            return False
        return bool(one["state"] == "started" and one["starts"] >= starts)

    def one(self, name: str) -> dict[str, Any]:
        """Return what it says of one manifold."""
        found: dict[str, Any] = self.report()["manifolds"][name]
        return found


@contextmanager
def running(
    folder: Path, manifolds: dict[str, dict[str, Any]], **settings: object
) -> Generator[Program]:
    """Run a program with `manifolds` until the end of the block; see `shop.engine`."""
    directory = folder / "told"
    directory.mkdir()
    path = folder / "private" / "it.sock"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]  # to be found again there after a restart
    told = {"directory": str(directory), "socket": str(path), "port": port, "token": TOKEN}
    environ = {**os.environ, "SHOP": json.dumps({**told, **settings, "manifolds": manifolds})}
    log = folder / "log"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "trioworker", "run", "tests.browser.shop:engine"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    program = Program(f"http://127.0.0.1:{port}/", path, directory)

    def is_there() -> bool:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        return program.reached("introspection", 1)

    try:
        wait_for(is_there)
        yield program
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Program]:
    """A program whose manifolds all work, one of them under a name that tries to be a script."""
    with running(tmp_path, {**MANIFOLDS, NASTY: {"inputs": ["db"]}}) as program:
        yield program


@pytest.fixture
def chrome(started_chrome: "Chrome") -> "Chrome":
    """The browser, rid of the last test's page and of what it said when its program ended."""
    started_chrome.get("about:blank")
    started_chrome.get_log("browser")  # type: ignore[no-untyped-call]  # of selenium
    return started_chrome


@pytest.fixture(scope="session")
def started_chrome(tmp_path_factory: pytest.TempPathFactory) -> Generator["Chrome"]:
    """The browser, for all tests: it takes a second to start."""
    browser, driver = _found()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "headless=new",
        "no-sandbox",  # in a container there is none to be had
        "disable-dev-shm-usage",
        "disable-gpu",
        "force-device-scale-factor=1",
        "hide-scrollbars",
        f"user-data-dir={tmp_path_factory.mktemp('chrome')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    chrome = webdriver.Chrome(options=options, service=service)
    yield chrome
    chrome.quit()


def _found() -> tuple[str, str]:
    """Return the browser and its driver; without them there is no test."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    problem = ""
    if browser is None or driver is None:
        problem = "there is no Chromium with its driver (Debian: chromium and chromium-driver)"
    elif importlib.util.find_spec("selenium") is None:
        problem = "selenium is not installed"
    if problem or browser is None or driver is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"{problem}, and REQUIRE_BROWSER=1")
        pytest.skip(problem)
    return browser, driver
