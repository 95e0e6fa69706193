"""Servers for the tests: private ones, started on free ports of the loopback interface.

- `tests.services.etcd`: one member or a cluster of three;
- `tests.services.postgres`: one server.

Each server is of the system's own packages (``make services`` installs them), keeps its data in a
temporary directory, and ends with the tests, however they end: see `tests.services.process`.
Without its binary the tests that need it are skipped, or, if ``REQUIRE_SERVICES=1``, fail.
"""
