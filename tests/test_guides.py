"""The guides of the documentation are true: each is a module with tests, and these are run here."""

import re
from importlib.util import find_spec

import pytest

from .pages import DOCS, shown

NEEDS = {"howto/asgi": "anycorn", "howto/from-asyncio": "anyio"}
"""What a page imports that an environment with the lowest versions need not have."""

GUIDES = {
    page: shown(page)
    for path in sorted((DOCS / "howto").glob("*.md"))
    if (page := f"howto/{path.stem}") not in NEEDS or find_spec(NEEDS[page])
}

for _page, _tests in GUIDES.items():
    for _name, _test in _tests.items():
        # As functions of this module, so that pytest gives them the fixtures that they ask for.
        globals()[f"test_{re.sub('[^a-z]', '_', _page)}__{_name.removeprefix('test_')}"] = _test


@pytest.mark.parametrize("page", GUIDES)
def test_each_test_of_a_guide_has_a_name_of_its_own(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    names = re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)

    assert sorted(names) == sorted(GUIDES[page])
