"""Which of the package's functions a KeyboardInterrupt can come into."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import trio


@contextmanager
def protection_noted() -> Generator[dict[str, bool]]:
    """Note, for each function of the package that is called, whether ^C waits until it has ended.

    A function that is called several times counts as protected if it was every time.
    """
    noted: dict[str, bool] = {}

    def note(frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        if event == "call" and "/trioworker/" in code.co_filename:
            protected = trio.lowlevel.currently_ki_protected()
            noted[code.co_qualname] = noted.get(code.co_qualname, True) and protected

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield noted
    finally:
        sys.setprofile(before)


def unprotected(noted: dict[str, bool], *functions: str) -> list[str]:
    """Return those of `functions` that were not called, or not protected."""
    return [name for name in functions if not noted.get(name, False)]
