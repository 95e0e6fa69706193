"""A structured-concurrency supervision framework for Trio.

The package is a house of floors. A module imports from its own floor or from below, never from
above; `tests/test_layering.py` has the table and checks it.

====== =================================================== ================================
floor  modules                                             what they are
====== =================================================== ================================
0      `_errors` `_util`                                   the words
1      `_worker` `_tomb` `_restart` `_report` `_groups`    what a lifetime is
2      `_catacomb` `_simple` `_periodic` `_watch`          tools made of lifetimes
       `_runner`
3      `dependency`                                        the graph of workers and their needs
4      `patterns` `backends`                               shapes of workers; what they talk to
5      `workers` `testing`                                 ready-made workers; our test doubles
6      `agent` `_demo`                                     the program around an engine
7      `_cli` `__main__`                                   the command line
====== =================================================== ================================

Not every floor is inhabited yet. A module with an underscore is private: what is public of it is
exported from the package that holds it.
"""

# The one place that has the version: the build reads it here, and importing needs no metadata.
__version__ = "0.1.0"

__all__: list[str] = []
