"""The demo: a small real program, broken on purpose while it works.

``trioworker demo`` runs it. Files of JSON lines arrive in a directory, and each is to be stored in
a SQLite database exactly once, whatever happens meanwhile. `agent.toml` is the program:

======== ==================== ====================================================================
name     needs                does
======== ==================== ====================================================================
inbox                         tells which files have arrived (inotify); finds those that came while
                              it was down
db                            keeps the SQLite database open
ingest   inbox, db            stores a file's rows and its SHA-256 in one transaction, then moves
                              the file to ``done/``; or to ``bad/``, with the reason beside it
stats    db                   counts what is stored, and keeps samples of it in the database
pruner   db                   deletes old samples
chaos                         breaks one of the others every 0.3 s
======== ==================== ====================================================================

**Where everything is.** ``inbox/`` what arrived; ``work/`` what `ingest` has claimed, one file at a
time; ``done/`` and ``bad/`` what it has dealt with; ``demo.db`` the rows; ``manifest.jsonl`` what
was dropped, written before it is, so that the verdict needs nobody's memory; ``demo.log`` what the
engine logged, with tracebacks.

**Why nothing is lost or stored twice.** A file is claimed by renaming it, so nobody can change
which file is meant. Its rows and its hash are committed together, and a hash that is stored already
is not stored again. The move comes last: a crash before it leaves the file in ``work/``, where the
next `ingest` looks first. A test of each step is in ``tests/demo/``; the command itself can be
killed with ``kill -9`` at any moment and continued with the same ``--dir``.

**What is said in the end** is counted by `verdict.py` from the database, ``done/`` and ``bad/``,
against the manifest. Before the program, the same engine runs two real dependency graphs
(`graphs.py`).
"""
