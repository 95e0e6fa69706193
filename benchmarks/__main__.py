"""Ask the questions; print a table, write JSON and charts, and say whether the bars are held."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from ._machine import machine
from ._method import Growth, Question, Result, Stopwatch, answers, growths
from ._pages import write_pages
from ._peers import PEERS, Answer, Peer, ask_peer
from ._table import check, growth_line, heading, peer_line, peer_table, result_line

FILES = (
    "tomb",
    "while_alive",
    "catacomb",
    "runner",
    "engine",
    "growth",
    "bounce",
    "restart",
    "install",
    "report",
    "introspection",
    "events",
    "idle",
    "memory",
    "imports",
    "fortress",
    "gate",
    "leases",
    "waiters",
    "renewals",
)
LATEST = Path(__file__).parent / "results" / "latest.json"
ROUNDS = 7
QUICK_ROUNDS = 2
QUICK_SIZE = 20


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; 1 if a bar that was to be checked is missed."""
    options = parser().parse_args(args)
    files, quick = options.files or FILES, options.quick
    facts = machine()
    print(", ".join(f"{name} {fact}" for name, fact in facts.items()))
    print("Other load on the machine disturbs the numbers; see benchmarks/README.md.\n")
    print(heading())
    results: list[Result] = []
    for result in ask(files, options.rounds, quick=quick):
        results.append(result)
        print(result_line(result), flush=True)
    grown = growths(results)
    for growth in grown:
        print(growth_line(growth))
    if (ours := Stopwatch.undisturbed()) is not None:
        facts["undisturbed"] = f"{ours:.0%}"
        print(f"\nThe processor was ours for {ours:.0%} of the time measured.")
    found: list[Answer] = []
    if not quick and options.peers:
        print()
        for answer in ask_peers(options.peers, files, options.rounds):
            found.append(answer)
            if not answer.is_lack:  # the table below tells that in fewer words
                print(peer_line(answer), flush=True)
        print(f"\n{peer_table(results, found)}")
    is_whole = not (options.files or quick) and options.peers == PEERS
    path = options.results or (LATEST if is_whole else None)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = as_json(facts, results, grown, found)
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        print(f"\nwrote {path}")
    if is_whole and path == LATEST:
        write_pages(json.loads(LATEST.read_text(encoding="utf-8")))
    return check(results) if options.check else 0


def questions_of(file: str) -> list[Question]:
    """Return the questions of one file."""
    questions: list[Question] = import_module(f".{file}", __package__).QUESTIONS
    return questions


def ask(files: Sequence[str], rounds: int, *, quick: bool = False) -> Iterator[Result]:
    """Ask all questions of `files`, each at all its sizes."""
    for file in files:
        for question in questions_of(file):
            if quick:
                n = question.sizes[0] if question.is_fixed else min(QUICK_SIZE, *question.sizes)
                yield from answers(question, n, QUICK_ROUNDS)
                continue
            for n in question.sizes:
                yield from answers(question, n, max(rounds, question.rounds))


def ask_peers(peers: Sequence[Peer], files: Sequence[str], rounds: int) -> Iterator[Answer]:
    """Ask each of `peers` what it can answer of `files`, at one size."""
    for peer in peers:
        for file in files:
            for question in questions_of(file):
                yield from ask_peer(peer, question, max(rounds, question.rounds))


def as_json(
    facts: dict[str, object],
    results: Sequence[Result],
    grown: Sequence[Growth],
    found: Sequence[Answer],
) -> dict[str, object]:
    """Return all that is known, with the peers' answers beside ours."""
    return {
        "machine": facts,
        "results": [
            {
                **result.plain(),
                "peers": {a.peer: a.plain() for a in found if a.is_about(result)},
            }
            for result in results
        ],
        "growth": [growth.plain() for growth in grown],
    }


def parser() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help=f"ask only these: {', '.join(FILES)}"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 if a bar is missed")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes and no peers: does it run at all?"
    )
    parser.add_argument(
        "--rounds", type=at_least_7, default=ROUNDS, help=f"rounds of each, at least {ROUNDS}"
    )
    parser.add_argument(
        "--peers",
        type=peers_named,
        default=PEERS,
        metavar="NAMES",
        help=f"none, or some of {','.join(peer.name for peer in PEERS)}; all by default",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="PATH",
        help="where to write the JSON; by default a whole run writes results/latest.json",
    )
    return parser


def at_least_7(text: str) -> int:
    """Read a number of rounds."""
    rounds = int(text)
    if rounds < ROUNDS:
        msg = f"fewer than {ROUNDS} rounds say nothing; --quick is the smoke test"
        raise argparse.ArgumentTypeError(msg)
    return rounds


def peers_named(text: str) -> tuple[Peer, ...]:
    """Read names of peers."""
    wanted = [] if text == "none" else text.split(",")
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in wanted if name not in known]:
        msg = f"no peer is called {', '.join(unknown)}; there are {', '.join(known)}"
        raise argparse.ArgumentTypeError(msg)
    return tuple(known[name] for name in wanted)


if __name__ == "__main__":
    sys.exit(main())
