"""The page in a real browser."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from .conftest import NASTY, TOKEN, Program, running, wait_for

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.full

ENTER, ESCAPE, TAB = "\ue007", "\ue00c", "\ue004"
SOON = 1.0
"""Seconds within which what has happened must be seen."""


@attrs.frozen
class Page:
    """The page of a program in the browser."""

    chrome: "Chrome"
    program: Program

    def all(self, css: str) -> "list[WebElement]":
        return self.chrome.find_elements("css selector", css)

    def one(self, css: str) -> "WebElement":
        return wait_for(lambda: next(iter(self.all(css)), None))

    def click(self, css: str) -> None:
        """Click on it, even if it is just being replaced."""
        from selenium.common.exceptions import StaleElementReferenceException

        def done() -> bool:
            try:
                self.one(css).click()
            except StaleElementReferenceException:
                return False
            return True

        wait_for(done)

    def run(self, script: str, *arguments: object) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def cell(self, name: str, column: int) -> str:
        """Return what stands in the row of `name`; nothing if there is none."""
        script = """
            const row = [...document.querySelectorAll("#rows tr")].find(
                (row) => row.dataset.name === arguments[0]);
            return row ? row.cells[arguments[1]].textContent : "";
        """
        found: str = self.run(script, name, column)
        return found

    def state(self, name: str) -> str:
        """Return the state that the row of `name` shows."""
        return self.cell(name, 1)

    def text(self, css: str) -> str:
        found: str = self.run("return document.querySelector(arguments[0])?.textContent ?? ''", css)
        return found

    def node(self, name: str) -> str:
        """Return the classes of a node of the graph."""
        script = """
            const node = [...document.querySelectorAll("#graph .node")].find(
                (node) => node.dataset.name === arguments[0]);
            return node ? node.getAttribute("class") : "";
        """
        found: str = self.run(script, name)
        return found

    def unlock(self) -> None:
        """Load it, and give the token."""
        self.chrome.get(self.program.url)
        field = self.one("#token")
        wait_for(field.is_displayed)
        field.send_keys(TOKEN + ENTER)
        self.wait_live()

    def wait_live(self) -> None:
        try:
            wait_for(lambda: self.text("#live") == "live")
            wait_for(lambda: self.all("#graph svg"))
        except AssertionError as exc:
            told = [self.text("#live"), self.text("#refused"), *self.console()]
            raise AssertionError(f"the page did not come to life: {told}") from exc

    def console(self) -> list[str]:
        """Return what the browser complained about since the last time."""
        log: list[dict[str, Any]] = self.chrome.get_log("browser")  # type: ignore[no-untyped-call]  # of selenium
        return [entry["message"] for entry in log if entry["level"] in {"WARNING", "SEVERE"}]


def sized(chrome: "Chrome", width: int, height: int, scheme: str = "light") -> None:
    """Let the window be of exactly this size and colour scheme."""
    emulated: list[tuple[str, dict[str, Any]]] = [
        (
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        ),
        (
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        ),
    ]
    for command, parameters in emulated:
        chrome.execute_cdp_cmd(command, parameters)


@pytest.fixture
def page(chrome: "Chrome", shop: Program) -> Iterator[Page]:
    """The page, unlocked; in the end the browser has nothing to complain about."""
    sized(chrome, 1440, 1000)
    page = Page(chrome, shop)
    page.unlock()
    page.console()
    yield page
    assert page.console() == []


def test_the_page_shows_every_manifold_and_its_graph(page: Page) -> None:
    names = [row.get_attribute("data-name") for row in page.all("#rows tr")]

    assert names == list(page.program.report()["manifolds"])
    assert page.state("db") == "started"
    assert page.node("web") == "node started"
    assert len(page.all("#graph .edge")) >= 10
    assert page.text("h1") == "shop"


def test_names_and_messages_are_shown_and_never_run(page: Page) -> None:
    page.program.crash(NASTY, f"boo {NASTY}")
    wait_for(lambda: f"boo {NASTY}" in page.text("#events ol"))
    page.run("location.hash = encodeURIComponent(arguments[0])", NASTY)
    wait_for(lambda: f"boo {NASTY}" in page.text("#details .ends"))

    assert page.chrome.title == "shop · trioworker"
    assert page.all("main img, aside img") == []
    assert len(page.all("script")) == 1
    assert f"boo {NASTY}" in page.text("#rows")


def test_a_crash_is_seen_within_a_second_and_without_reload(page: Page) -> None:
    page.run("window.still = 'the same page'")
    before = page.program.one("db")["starts"]
    page.program.crash("db", "disk full")
    wait_for(lambda: page.program.one("db")["failures"])
    begin = time.monotonic()
    wait_for(lambda: "disk full" in page.text("#rows"), within=SOON)
    wait_for(lambda: "OutOfPaper: disk full" in page.text("#events ol"), within=SOON)
    seen = time.monotonic() - begin

    assert seen < SOON
    wait_for(lambda: page.program.one("web")["state"] == "started")
    wait_for(lambda: page.state("web") == "started", within=SOON)
    wait_for(lambda: page.node("db") == "node started", within=SOON)
    wait_for(lambda: int(page.cell("db", 4)) > before, within=SOON)
    assert page.run("return window.still") == "the same page"


def test_a_click_on_a_row_tells_why_and_who_else_stops(page: Page) -> None:
    page.click('#rows tr[data-name="db"] .n')
    details = page.one("#details")
    wait_for(details.is_displayed)

    wait_for(lambda: "db has been started for" in page.text("#details"))
    facts = dict(
        zip(
            [found.text for found in page.all("#details dt")],
            [found.text for found in page.all("#details dd")],
            strict=True,
        )
    )
    assert facts["Inputs"] == "clock"
    assert facts["Dependents"].split()[:3] == ["stock", "prices", "orders"]
    assert "web" in facts["Stops with it"]
    assert '"journal": "wal"' in page.text("#details pre")
    assert "accept" in page.text("#details")
    assert "chosen" in page.node("db")


def test_a_click_on_a_node_does_the_same(page: Page) -> None:
    page.click('#graph .node[data-name="orders"]')

    wait_for(lambda: "orders has been started" in page.text("#details"))


def test_a_button_restarts_a_manifold(page: Page) -> None:
    before = page.program.one("stock")["starts"]
    page.click('#rows tr[data-name="stock"] a')
    page.click("#details [data-key=restart]")

    wait_for(lambda: page.program.one("stock")["starts"] > before)
    wait_for(lambda: "stock starting→started" in page.text("#events ol"))
    wait_for(lambda: page.text("#details .said") == "restarted")


def test_a_manifold_is_held_and_released(page: Page) -> None:
    page.click('#rows tr[data-name="prices"] a')
    page.click("#details [data-key=hold]")
    wait_for(lambda: page.state("prices") == "held")
    wait_for(lambda: "prices is held" in page.text('#rows tr[data-name="web"] .why'))
    page.click("#details [data-key=release]")

    wait_for(lambda: page.state("web") == "started")


def test_everything_is_held_after_being_asked_twice(page: Page) -> None:
    page.click("#drain")
    wait_for(lambda: page.text("#drain") == "Hold everything?")
    assert page.program.one("web")["state"] == "started"
    page.click("#drain")

    wait_for(lambda: page.state("clock") == "held")
    assert page.state("introspection") == "started"


def test_the_filter_leaves_what_fits(page: Page) -> None:
    def left() -> list[str | None]:
        return [r.get_attribute("data-name") for r in page.all("#rows tr") if r.is_displayed()]

    page.one("#filter").send_keys("sto")
    assert left() == ["stock"]
    page.one("#filter").send_keys("!")
    assert left() == []
    assert page.one("#none").is_displayed()
    page.one("#filter").send_keys(ESCAPE)
    page.click('#states [data-only="started"]')
    assert len(left()) == len(page.all("#rows tr"))


def test_the_page_can_be_used_with_the_keyboard_alone(page: Page) -> None:
    def press(*keys: str) -> None:
        for key in keys:
            page.chrome.switch_to.active_element.send_keys(key)

    def focused(script: str) -> Any:
        return page.run(f"return document.activeElement.{script}")

    press("/")
    assert focused("id") == "filter"
    press("s", "t", "o", "c", TAB, TAB)
    assert focused("textContent") == "stock"
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid", (
        "the focus can be seen"
    )
    press(ENTER)
    wait_for(lambda: "stock has been started" in page.text("#details"))
    press(ESCAPE)
    wait_for(lambda: not page.one("#details").is_displayed())
    assert focused("textContent") == "stock"
    press(ENTER)
    wait_for(lambda: page.all("#details .chain"))
    page.run("document.querySelector('#details .close').focus()")
    press(ENTER)
    wait_for(lambda: not page.one("#details").is_displayed())
    assert focused("textContent") == "stock", "where it was before"

    page.run("document.querySelector('#graph .node').focus()")
    press(ENTER)
    wait_for(lambda: page.one("#details").is_displayed())
    assert page.all("#events [role=log][aria-live=polite]")


def test_it_fits_a_telephone(page: Page) -> None:
    page.program.crash("db", "a_long_word_without_any_place_to_break_it" * 5)
    sized(page.chrome, 400, 800)
    page.run("location.hash = 'orders'")
    wait_for(lambda: page.all("#details .chain li"))

    for css in ("html", "body", "#page", "#details"):
        element = f"document.querySelector({css!r})"
        over = page.run(f"return {element}.scrollWidth - {element}.clientWidth")
        assert over <= 0, css
    right = page.run("""
        const found = document.querySelectorAll("#rows > * > *, #filter, #details *, header *");
        return Math.max(...[...found].map((one) => one.getBoundingClientRect().right));
    """)
    assert right <= 400


def test_the_timeline_has_a_lane_for_each(page: Page) -> None:
    page.click("#timeline summary")

    wait_for(lambda: "web" in page.text("#timeline svg"))
    assert page.all("#timeline rect.started")


def test_the_token_stays_in_the_tab_and_in_no_address(page: Page) -> None:
    assert TOKEN not in page.chrome.current_url
    assert TOKEN not in page.chrome.page_source
    assert page.run("return localStorage.length") == 0
    assert page.run("return document.cookie") == ""

    page.chrome.refresh()  # it is asked for once
    page.wait_live()
    assert not page.one("#login").is_displayed()
    page.run("sessionStorage.clear()")


def test_a_wrong_token_is_told(chrome: "Chrome", shop: Program) -> None:
    page = Page(chrome, shop)
    chrome.get(shop.url)
    field = page.one("#token")
    wait_for(field.is_displayed)
    assert page.all("#rows tr") == []
    field.send_keys("something else" + ENTER)

    wait_for(lambda: page.text("#refused"))
    assert field.is_displayed()
    assert page.all("#rows tr") == []


def test_a_page_that_waits_for_its_token_asks_for_nothing(chrome: "Chrome", shop: Program) -> None:
    """A browser says that the graph was opened also when it stands open in the page that came."""
    page = Page(chrome, shop)
    chrome.get(shop.url)
    wait_for(page.one("#token").is_displayed)
    page.run("""
        document.getElementById("timeline").open = true;
        for (const id of ["graph", "timeline"])
            document.getElementById(id).dispatchEvent(new Event("toggle"));
    """)
    page.one("#token").send_keys(TOKEN + ENTER)
    page.wait_live()

    assert page.console() == []


def test_what_came_of_an_earlier_token_does_not_forget_the_right_one(
    chrome: "Chrome", shop: Program
) -> None:
    page = Page(chrome, shop)
    chrome.get(shop.url)
    wait_for(page.one("#token").is_displayed)
    page.run("""
        const real = window.fetch;
        window.fetch = async (...what) => {
            window.fetch = real;
            const answer = await real(...what);
            await new Promise((go_on) => { window.go_on = go_on; });
            return answer;
        };
    """)
    page.one("#token").send_keys("wrong" + ENTER)
    wait_for(lambda: page.run("return Boolean(window.go_on)"))
    page.one("#token").send_keys(TOKEN + ENTER)
    page.wait_live()
    page.run("window.go_on()")
    shop.crash("clock", "out of time")

    wait_for(lambda: "out of time" in page.cell("clock", 5))
    assert page.text("#live") == "live"
    assert page.text("#refused") == ""
    page.console()  # it has complained of the wrong token


def test_a_manifold_may_be_called_as_what_the_page_skips_to(
    chrome: "Chrome", tmp_path: Path
) -> None:
    with running(tmp_path, {"rows": {}}) as program:
        page = Page(chrome, program)
        page.unlock()
        page.click('#rows tr[data-name="rows"] .n')

        wait_for(lambda: "rows has been started for" in page.text("#details"))


def test_who_comes_and_who_goes_is_seen(chrome: "Chrome", tmp_path: Path) -> None:
    with running(tmp_path, {"clock": {}, "one": {"inputs": ["engine"]}}) as program:
        page = Page(chrome, program)
        page.unlock()
        wait_for(lambda: page.node("one"))
        program.crash("one", "become another")

        wait_for(lambda: page.state("another") == "started")
        wait_for(lambda: page.node("another") == "node started")
        wait_for(lambda: not page.state("one"))
        wait_for(lambda: not page.node("one"))
        names = [row.get_attribute("data-name") for row in page.all("#rows tr")]
        assert names == list(program.report()["manifolds"])
        assert page.console() == []


def test_a_state_is_seen_before_the_page_comes_anew(page: Page) -> None:
    """Of a large program the page takes its time; the event says what there is to see."""
    page.run("""
        const before = window.fetch;
        const never = new Promise(() => {});
        window.fetch = (path, options) => path === "./" ? never : before(path, options);
    """)
    page.program.ask("POST", "/hold/prices")

    wait_for(lambda: page.state("prices") == "held", within=SOON)
    wait_for(lambda: page.node("prices") == "node held", within=SOON)
    wait_for(lambda: page.text('#states [data-only="held"] b') == "1", within=SOON)


def test_a_burst_of_events_does_not_hold_the_page_up(chrome: "Chrome", tmp_path: Path) -> None:
    """Each of two thousand events once had the table laid out anew: that took half a minute."""
    units = {f"unit-{i}": {"inputs": ["hub"], "rests": True} for i in range(500)}
    with running(tmp_path, {"hub": {"rests": True}, **units}) as program:
        sized(chrome, 1440, 1000)
        page = Page(chrome, program)
        page.unlock()
        wait_for(lambda: page.text('#states [data-only="started"] b') == "503")
        page.run("""
            window.longest = 0;
            const note = (entry) => { window.longest = Math.max(window.longest, entry.duration); };
            new PerformanceObserver((list) => list.getEntries().forEach(note)).observe(
                { type: "longtask" });
        """)
        program.ask("POST", "/restart/hub")
        wait_for(lambda: page.cell("unit-499", 4) == "2")
        wait_for(lambda: page.text('#states [data-only="started"] b') == "503")

        assert page.run("return window.longest") < 2000
        assert page.console() == []


def test_it_says_that_the_program_is_gone_and_catches_up_when_it_is_back(page: Page) -> None:
    page.run("window.before = fetch; window.fetch = () => Promise.reject(new TypeError('gone'))")
    page.run("location.hash = 'web'")
    wait_for(lambda: "gone" in page.text("#details"))
    starts = page.program.one("introspection")["starts"]
    page.program.ask("POST", "/restart/introspection")
    wait_for(lambda: "not connected" in page.text("#live"))
    wait_for(lambda: page.program.reached("introspection", starts + 1))
    page.program.ask("POST", "/hold/prices")
    wait_for(lambda: page.program.one("prices")["state"] == "held")
    assert page.state("prices") == "started"
    page.run("window.fetch = window.before")

    wait_for(lambda: page.state("prices") == "held")
    wait_for(lambda: page.text("#live") == "live")
