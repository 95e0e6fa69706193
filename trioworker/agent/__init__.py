"""The program around an engine: agent files, signals, logging.

::

    agent = load("agent.toml")
    configure_logging(mask=agent.mask)
    sys.exit(trio.run(run_agent, agent))

An agent file is TOML that names manifolds. It holds no code, but reading it imports what it names,
so it is as trusted as a program. How it is read is told in `_load.py`, how values of the
environment stay out of sight in `_environment.py`, what signals do in `_run.py`.
"""

from .._util import settle_names as _settle_names
from ._environment import Mask as Mask
from ._load import Agent as Agent, load as load
from ._logging import configure_logging as configure_logging
from ._problems import AgentFileError as AgentFileError, Problem as Problem
from ._program import Program as Program, open_program as open_program
from ._run import run_agent as run_agent, run_engine as run_engine

__all__ = [
    "Agent",
    "AgentFileError",
    "Mask",
    "Problem",
    "Program",
    "configure_logging",
    "load",
    "open_program",
    "run_agent",
    "run_engine",
]

_settle_names(__name__, globals())
