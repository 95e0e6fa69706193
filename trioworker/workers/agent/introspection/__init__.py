"""See inside a running program: a server on a Unix socket that tells how it is.

In an agent file::

    [manifolds.introspection]
    use = "trioworker.workers.agent.introspection:manifold"

It needs a manifold ``engine``, which every agent program offers (elsewhere: `self_manifold`). What
it answers is told in the documentation, under "See inside"; the extra ``introspection`` brings what
it needs.

`socket_path` says where a program of a given name listens, `sockets` lists all that do; they need
no extra.
"""

from trioworker._util import settle_names as _settle_names

from ._config import Config as Config
from ._faces import Exposition as Exposition, Masking as Masking
from ._manifold import manifold as manifold
from ._socket import SocketInUse as SocketInUse, socket_path as socket_path, sockets as sockets
from ._trace import Recorder as Recorder

__all__ = [
    "Config",
    "Exposition",
    "Masking",
    "Recorder",
    "SocketInUse",
    "manifold",
    "socket_path",
    "sockets",
]

_settle_names(__name__, globals())
