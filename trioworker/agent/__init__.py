"""The program around an engine: agent files, signals, logging, a watchdog, systemd.

::

    agent = load("agent.toml")
    configure_logging(mask=agent.mask)
    sys.exit(trio.run(run_agent, agent))

An agent file is TOML that names manifolds. It holds no code, but reading it imports what it names,
so it is as trusted as a program. All of its problems are told at once (`AgentFileError`); values
that came from the environment are shown as ``${NAME}`` wherever trioworker prints (`Mask`); the
first SIGINT or SIGTERM stops the program in order, the second hard (`run_engine`), which also keeps
systemd told; a `Watchdog` tells what blocks the event loop.
"""

from .._util import settle_names as _settle_names
from ._environment import Mask as Mask
from ._load import Agent as Agent, load as load
from ._logging import configure_logging as configure_logging
from ._problems import AgentFileError as AgentFileError, Problem as Problem
from ._program import Program as Program, open_program as open_program
from ._run import run_agent as run_agent, run_engine as run_engine
from ._schema import file_schema as file_schema
from ._watchdog import Watchdog as Watchdog

__all__ = [
    "Agent",
    "AgentFileError",
    "Mask",
    "Problem",
    "Program",
    "Watchdog",
    "configure_logging",
    "file_schema",
    "load",
    "open_program",
    "run_agent",
    "run_engine",
]

_settle_names(__name__, globals())
