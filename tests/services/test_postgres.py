"""The PostgreSQL servers of the tests: they start, come back, and leave nothing behind."""

import psycopg
import pytest

from .postgres import Instance


@pytest.mark.full
def test_a_server_comes_back_with_its_data_and_leaves_nothing_behind() -> None:
    with Instance() as instance:
        instance.start()
        instance.execute("CREATE TABLE kept ()")
        instance.stop()
        assert not instance.is_running
        instance.start()
        instance.execute("DROP TABLE kept")
        assert instance.directory.exists()
    assert not instance.is_running
    assert not instance.directory.exists()


def test_what_is_emptied_has_nothing_and_nobody_in_it(postgres: Instance) -> None:
    with psycopg.connect(postgres.emptied()) as before:
        before.execute("CREATE SCHEMA theirs; CREATE TABLE mine (); CREATE TABLE theirs.too ()")
        before.commit()
        after = postgres.emptied()
        with pytest.raises(psycopg.OperationalError):
            before.execute("SELECT 1")
    with psycopg.connect(after) as connection:
        found = "SELECT to_regclass('mine'), to_regnamespace('theirs'), current_schema()"
        assert connection.execute(found).fetchone() == (None, None, "public")
