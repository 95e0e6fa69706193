"""What is started here is not measured: it gets killed, and finds full disks, by no fault of ours.

Coverage would write its data there as well, in the process that must not, and complain on the very
standard error that these tests read.
"""

import pytest

from tests.demo.conftest import runtime_directory as runtime_directory


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a test know nothing of the coverage that the test itself is run with."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
