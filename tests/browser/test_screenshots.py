"""The pictures of the page in the documentation: `make screenshots` takes them."""

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import MANIFOLDS, Program, running, wait_for
from .test_page import Page, sized

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.full

FOLDER = os.environ.get("SCREENSHOTS", "")  # conftest.py ignores this file without it
IN_TROUBLE: dict[str, dict[str, Any]] = {
    **MANIFOLDS,
    "search": {"inputs": ["stock"], "hangs": True},
    "mailer": {"inputs": ["clock"], "error": "relay.example: connection refused"},
    "receipts": {"inputs": ["mailer", "orders"]},
    "exports": {"inputs": ["orders"], "says": {"files": 12}},
}


def test_pictures_are_taken(chrome: "Chrome", tmp_path: Path) -> None:
    with running(tmp_path, IN_TROUBLE, max_delay=60) as program:
        page = Page(chrome, program)
        sized(chrome, 1280, 860)
        page.unlock()
        bring_into_trouble(page, program)
        taken(page, "page-light")
        sized(chrome, 1280, 860, "dark")
        taken(page, "page-dark")
        page.run("document.querySelector('#details .close').click()")
        sized(chrome, 400, 860)
        page.run("scrollTo(0, 0)")
        taken(page, "page-narrow")
        chrome.get("about:blank")


def bring_into_trouble(page: Page, program: Program) -> None:
    page.click('#rows tr[data-name="exports"] a')
    page.click("#details [data-key=hold]")
    wait_for(lambda: page.state("exports") == "held")
    program.crash("prices", "price list is empty")
    wait_for(lambda: program.one("prices")["failures"])
    wait_for(lambda: page.state("web") == "started")
    wait_for(lambda: program.one("mailer")["failures"] > 4)  # then it has to wait for long
    page.run("location.hash = 'receipts'")
    wait_for(lambda: "is backing off" in page.text("#details"))
    wait_for(lambda: "prices: started" not in page.text("#rows"))


def taken(page: Page, name: str) -> None:
    away = {"type": "mouseMoved", "x": 0, "y": 0}
    page.chrome.execute_cdp_cmd("Input.dispatchMouseEvent", away)
    page.run("document.activeElement.blur()")
    page.run("for (const one of document.getAnimations()) one.finish()")
    found: dict[str, str] = page.chrome.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "optimizeForSpeed": False}
    )
    Path(FOLDER, f"{name}.png").write_bytes(base64.b64decode(found["data"]))
