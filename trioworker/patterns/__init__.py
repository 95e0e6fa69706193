"""Shapes that most workers are an instance of.

====================== ==================================================================
`Flag` `FlagReport`    a boolean that stays as it is for the life of the worker that has it
`SampledFlag`          such a flag, of a value that is read, watched, and read again
`FlagChanged`          how it ends, when it would have to say something else
`WatchedValue`         what it needs: something to read and to watch
`as_flag` `bounce_on`  how a manifold offers a flag, and what its end means to an engine
`named` `positive`     what a field of a config often has to be
====================== ==================================================================
"""

from trioworker._util import settle_names as _settle_names

from .fields import named as named, positive as positive
from .flag import (
    Flag as Flag,
    FlagChanged as FlagChanged,
    FlagReport as FlagReport,
    SampledFlag as SampledFlag,
    WatchedValue as WatchedValue,
    as_flag as as_flag,
    bounce_on as bounce_on,
)

__all__ = [
    "Flag",
    "FlagChanged",
    "FlagReport",
    "SampledFlag",
    "WatchedValue",
    "as_flag",
    "bounce_on",
    "named",
    "positive",
]

_settle_names(__name__, globals())
