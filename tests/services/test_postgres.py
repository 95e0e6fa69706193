"""The PostgreSQL servers of the tests: they start, come back, and leave nothing behind."""

import psycopg
import pytest

from .postgres import Instance


def test_the_one_for_all_answers_and_has_a_database_for_everybody(postgres: Instance) -> None:
    one, other = postgres.database(), postgres.database()
    with psycopg.connect(one) as connection:
        connection.execute("CREATE TABLE mine ()")
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)


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
