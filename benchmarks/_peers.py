"""Others, asked the same: who they are, what they lack, and how they are measured.

Each peer has a file in `peers/` with its side of the questions, and pins of its own in
`peers/requirements/`. It lives in an environment of its own under ``build/peers/``, made when it is
first asked for, and each question is asked in a process of its own there, against the floor of that
same process: a peer on Trio against the floor in the file of the question, one on asyncio against
the same in raw asyncio (`peers/_asyncio.py`).

A peer that cannot be installed, or fails at something, does not end the run: the table says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ._method import Question, Result

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).parent / "peers" / "requirements"
ENVIRONMENTS = ROOT / "build" / "peers"
SECONDS = 240
"""That one question may take in one peer."""

NOT_ASKED = ("growth", "introspection", "fortress", "gate", "leases", "waiters", "renewals")
"""About what only we promise."""

BY_HAND = "no dependencies in it; the workers wait for each other's events, as in the floor"
NO_RESTARTS = "starts nothing again"
NO_GRAPH = "does not know who depends on whom"
NOBODY_HAS = {
    "while_alive": "no guard for calls into a task that may end",
    "restart, Bounce": "a worker cannot ask to be started again",
    "report": "no report of what it runs",
    "events": "no events to subscribe to",
}
NO_SUPERVISOR = {
    **NOBODY_HAS,
    "runner": NO_RESTARTS,
    "bounce": NO_GRAPH,
    "restart": NO_RESTARTS,
}
DEPENDENCIES = {"engine": BY_HAND, "install": BY_HAND}


@dataclass(frozen=True, kw_only=True, eq=False)
class Peer:
    """Somebody else."""

    name: str
    """Also that of its requirements and of its environment."""
    module: str
    """In `peers/`."""
    distribution: str | None
    """``None`` for what comes with Python."""
    runtime: Literal["trio", "asyncio"]
    python: str | None = None
    """The version of Python that it needs, if it has to be another than ours."""
    lacks: Mapping[str, str]
    """What it has no feature for: a question, its file, or one thing that it measures; and why."""
    by_hand: Mapping[str, str] = field(default_factory=dict[str, str])
    """What is made by hand in its file, as a user of it would have to, and how."""


PEERS = (
    Peer(
        name="anyio",
        module="on_anyio",
        distribution="anyio",
        runtime="trio",
        lacks=NO_SUPERVISOR,
        by_hand=DEPENDENCIES,
    ),
    Peer(
        name="tricycle",
        module="on_tricycle",
        distribution="tricycle",
        runtime="trio",
        lacks=NO_SUPERVISOR,
        by_hand=DEPENDENCIES,
    ),
    Peer(
        name="triotp",
        module="on_triotp",
        distribution="triotp",
        runtime="trio",
        python="3.13",
        lacks={
            **NOBODY_HAS,
            "bounce": NO_GRAPH,
            "runner: stop one": "cannot stop one child",
        },
        by_hand=DEPENDENCIES,
    ),
    Peer(
        name="asphalt",
        module="on_asphalt",
        distribution="asphalt",
        runtime="asyncio",
        lacks={**NO_SUPERVISOR, "bounce": NO_RESTARTS},
    ),
    Peer(
        name="mode-streaming",
        module="on_mode",
        distribution="mode-streaming",
        runtime="asyncio",
        lacks={
            **NOBODY_HAS,
            **dict.fromkeys(
                (
                    "engine, layered",
                    "engine, juju-model-iaas-agent",
                    "engine, juju-model-caas-agent",
                    "install, for all",
                ),
                "a tree: whoever is needed starts those who need it, and each has one parent",
            ),
        },
    ),
    Peer(
        name="aiomisc",
        module="on_aiomisc",
        distribution="aiomisc",
        runtime="asyncio",
        lacks=NO_SUPERVISOR,
        by_hand=DEPENDENCIES,
    ),
    Peer(
        name="asyncio",
        module="on_asyncio",
        distribution=None,
        runtime="asyncio",
        lacks=NO_SUPERVISOR,
        by_hand=DEPENDENCIES,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one peer answered to one question, or why it did not."""

    peer: str
    version: str | None
    runtime: str
    question: str
    what: str
    """Empty for all that the question measures."""
    n: int
    result: Result | None
    says: str
    """Why there is no result; or what is made by hand in it."""
    is_lack: bool = False

    @property
    def title(self) -> str:
        """The question, and what of it this is about."""
        return f"{self.question}: {self.what}" if self.what else self.question

    def is_about(self, result: Result) -> bool:
        """Whether `result` is our answer to the same."""
        same = (self.question, self.n) == (result.question, result.n)
        return same and self.what in ("", result.what)

    def plain(self) -> dict[str, Any]:
        """Return it as it goes into the JSON."""
        data: dict[str, Any] = {"version": self.version, "runtime": self.runtime}
        if self.result is None:
            return {**data, "lacks" if self.is_lack else "failed": self.says}
        return {
            **data,
            "ours": asdict(self.result.ours),
            "floor": asdict(self.result.floor),
            "ratio": self.result.ratio and asdict(self.result.ratio),
            "difference": asdict(self.result.difference),
            "by_hand": self.says or None,
        }


def ask_peer(peer: Peer, question: Question, rounds: int) -> Iterator[Answer]:
    """Ask `peer` one question, at the one size that peers are asked at."""
    file = question.name.partition(",")[0]
    if file in NOT_ASKED:
        return
    n = question.peers_at

    def answer(
        what: str, result: Result | None, says: str, version: str | None = None, *, lack: bool
    ) -> Answer:
        return Answer(
            peer=peer.name,
            version=version,
            runtime=peer.runtime,
            question=question.name,
            what=what,
            n=n,
            result=result,
            says=says,
            is_lack=lack,
        )

    if reason := peer.lacks.get(question.name) or peer.lacks.get(file):
        yield answer("", None, reason, lack=True)
        return
    python, problem = environment(peer)
    if python is None:
        yield answer("", None, problem, lack=False)
        return
    said = run(python, peer, question, rounds)
    version = said.get("version")
    if "failed" in said:
        yield answer("", None, said["failed"], version, lack=False)
        return
    by_hand = peer.by_hand.get(question.name) or peer.by_hand.get(file) or ""
    for what, pairs in said["pairs"].items():
        result = Result(
            question=question.name,
            what=what,
            n=n,
            unit=question.unit,
            against=f"raw {peer.runtime}",
            pairs=[(ours, floor) for ours, floor in pairs],
            bar=None,
        )
        yield answer(what, result, by_hand, version, lack=False)
    for name, reason in peer.lacks.items():
        asked, _, what = name.partition(": ")
        if asked == question.name and what:
            yield answer(what, None, reason, version, lack=True)


def run(python: Path, peer: Peer, question: Question, rounds: int) -> dict[str, Any]:
    """Ask in a process of its own; return what it wrote, or why it did not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.json"
        asked = [peer.module, question.name, str(question.peers_at), str(rounds), str(path)]
        command = [str(python), "-m", "benchmarks.peers", *asked]
        try:
            done = subprocess.run(
                command, cwd=ROOT, timeout=SECONDS, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {SECONDS} s"}
        if not path.exists():
            return {"failed": last_line(done.stderr) or f"ended with {done.returncode}"}
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return said


@cache
def environment(peer: Peer) -> tuple[Path | None, str]:
    """Return the Python of the peer's environment, made if need be; or ``None`` and why not."""
    if peer.distribution is None:
        return Path(sys.executable), ""
    base = find_python(peer.python)
    if base is None:
        return None, f"not here: needs Python {peer.python}, which was not found"
    pins = REQUIREMENTS / f"{peer.name}.txt"
    folder = ENVIRONMENTS / peer.name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "made-from"
    wanted = f"{base}\n{hashlib.sha256(pins.read_bytes()).hexdigest()}\n"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python, ""
    print(f"making an environment for {peer.name}", file=sys.stderr, flush=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    for command in (
        [str(base), "-m", "venv", "--clear", str(folder)],
        [*pip, "--require-hashes", "--no-deps", "-r", str(pins)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None, f"not here: cannot be installed: {last_line(done.stderr)}"
    stamp.write_text(wanted, encoding="utf-8")
    return python, ""


def find_python(version: str | None) -> Path | None:
    """Return a Python of `version`, or ours if that does not matter."""
    if version is None or sys.version.startswith(f"{version}."):
        return Path(sys.executable)
    named = shutil.which(f"python{version}")
    # Those that pyenv keeps are on the path only as stand-ins, which may refuse.
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for candidate in [*([Path(named)] if named else []), *reversed(kept)]:
        asked = [str(candidate), "-c", "import sys, venv; print(*sys.version_info[:2], sep='.')"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return candidate
    return None


def last_line(text: str) -> str:
    """Return the last line of what a process said, which is its error; of no place it names."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1] if lines else ""
    return re.sub(r"\S+://\S+", "...", said).replace(f"{ROOT}", "")
