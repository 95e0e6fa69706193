"""A small client of etcd's v3 API: its JSON gateway, over HTTP/1.1 on h11.

It keeps to what etcd 3.4 to 3.7 have in common, as documented; it is tested with 3.4. Every call is
one POST; `Client.call` makes any, and the methods beside it those that most need, with what JSON
hides put right: 64-bit numbers come as strings, bytes in base64, and what has its default value (a
comparison that failed, an event that is a PUT) does not come at all.

**Endpoints.** Calls go to one member until it fails; then to the next, once to each. Each has
`timeout` seconds for a call, from before the connection on. A call that only reads, or that harms
nobody when it is made twice, is repeated at the next endpoint whatever happened. A transaction is
repeated only if the endpoint surely never saw it. Otherwise it may have been done, and its answer
be lost: that is `EtcdUnavailable`, and reading tells.

**Connections.** One for each call under way; those that are done are kept, and used again unless
they have something to say, which would be their end. One for each watch. A call that is cancelled
or fails takes its connection along, so no answer is ever taken for another's.

**Authentication** is by user and password, as the gateway knows no names in certificates. A token
is got before the first call and again when etcd does not take it any more: it says that before it
does anything, so whatever was refused so is asked again.

**Leases.** That a lease is kept alive is answered by whoever believes to lead, without asking the
others: of a cluster whose leader has just changed, maybe by one that leads no more. Where that
matters, grant a new lease and put the key again: that is agreed upon.
"""

from trioworker._util import settle_names as _settle_names

from ._client import Client as Client, open_etcd as open_etcd
from ._errors import (
    Compacted as Compacted,
    EtcdError as EtcdError,
    EtcdRefused as EtcdRefused,
    EtcdUnavailable as EtcdUnavailable,
    LeaseLost as LeaseLost,
)
from ._watch import Watch as Watch
from ._wire import (
    Event as Event,
    KeyValue as KeyValue,
    TxnResult as TxnResult,
    absent as absent,
    delete as delete,
    nested as nested,
    present as present,
    put as put,
    read as read,
    unchanged as unchanged,
)

__all__ = [
    "Client",
    "Compacted",
    "EtcdError",
    "EtcdRefused",
    "EtcdUnavailable",
    "Event",
    "KeyValue",
    "LeaseLost",
    "TxnResult",
    "Watch",
    "absent",
    "delete",
    "nested",
    "open_etcd",
    "present",
    "put",
    "read",
    "unchanged",
]

_settle_names(__name__, globals())
