"""Real engines that can be reached from Trio. They know nothing of workers.

One module each, imported by its name, because each may need what not everybody has:

- `trioworker.backends.etcd`: a client of etcd; ``pip install "trioworker[etcd]"``;
- `trioworker.backends.http`: an HTTP server; ``pip install "trioworker[introspection]"``;
- `trioworker.backends.inotify`: a directory's changes, on Linux;
- `trioworker.backends.postgres`: a PostgreSQL database; ``pip install "trioworker[postgres]"``;
- `trioworker.backends.signals`: signals of the operating system;
- `trioworker.backends.sqlite`: a SQLite database; ``pip install "trioworker[sqlite]"``.
"""
