"""`portalctl migrate` applies what is missing, safely when run twice or by two at once."""

import os
import subprocess

import pytest

from bed.process import BUILD, ROOT, environment

COUNT = len(list((ROOT / "sql").glob("[0-9]*.sql")))


@pytest.fixture
def empty(bed):
    """A database with the application's tables only; its URL as the owner, and its name."""
    bed.heal()
    name = f"portal_migrate_{os.getpid()}"
    bed.create_database(name, template="template1")
    bed.postgres.load(bed.owner_url(name), ROOT / "sql/application/starter.sql")
    yield name
    bed.drop_database(name)


def rows(bed, name, statement):
    connection = bed.postgres.connect(name)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


def migrations(bed, name):
    return [number for number, in rows(bed, name, "SELECT number FROM portal.migrations ORDER BY number")]


def test_it_applies_all_and_then_nothing(bed, empty):
    bed.migrate(empty)
    applied = rows(bed, empty, "SELECT number, applied_at FROM portal.migrations ORDER BY number")
    assert [number for number, _ in applied] == list(range(1, COUNT + 1))
    bed.migrate(empty)
    assert rows(bed, empty, "SELECT number, applied_at FROM portal.migrations ORDER BY number") == applied


def test_eight_at_once_do_not_meet(bed, empty):
    command = [BUILD / "portalctl", "migrate", "--directory", ROOT / "sql"]
    settings = environment(DATABASE_URL=bed.owner_url(empty))
    running = [subprocess.Popen(command, env=settings, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT) for _ in range(8)]
    for one in running:
        output, _ = one.communicate(timeout=60)
        assert one.returncode == 0, output
    assert migrations(bed, empty) == list(range(1, COUNT + 1))


def test_a_file_that_fails_leaves_nothing_half_done(bed, empty, tmp_path):
    for path in sorted((ROOT / "sql").glob("[0-9]*.sql")):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / f"{COUNT + 1:03}-broken.sql").write_text("CREATE TABLE portal.half (id int); SELECT 1 / 0;")
    done = subprocess.run([BUILD / "portalctl", "migrate", "--directory", tmp_path], text=True,
                          env=environment(DATABASE_URL=bed.owner_url(empty)), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 1 and f"{COUNT + 1:03}-broken.sql: division by zero" in done.stdout
    assert migrations(bed, empty) == list(range(1, COUNT + 1))
    assert rows(bed, empty, "SELECT to_regclass('portal.half')") == [(None,)]


def test_a_file_that_was_changed_after_it_was_applied_is_noticed(bed, empty, tmp_path):
    bed.migrate(empty)
    for path in sorted((ROOT / "sql").glob("[0-9]*.sql")):
        (tmp_path / path.name).write_text(path.read_text())
    first = min(tmp_path.iterdir())
    first.write_text(first.read_text() + "\n-- changed\n")
    done = subprocess.run([BUILD / "portalctl", "migrate", "--directory", tmp_path], text=True,
                          env=environment(DATABASE_URL=bed.owner_url(empty)), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert first.name in done.stdout and "changed" in done.stdout


def test_the_workers_role_may_do_no_more_than_it_needs(service):
    def refused(statement):
        return subprocess.run(["psql", "-X", "-c", statement, service.database_url], env=environment(),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    for statement in ("SELECT * FROM public.teams", "SELECT * FROM public.users", "DELETE FROM public.team_members",
                      "UPDATE portal.application_teams SET stripe_customer_id = 'x'",
                      "CREATE TABLE portal.mine (i int)", "CREATE TABLE public.mine (i int)",
                      "DROP TABLE portal.sessions",
                      "INSERT INTO portal.migrations VALUES (99, 'x', repeat('0', 64))"):
        assert "permission denied" in refused(statement) or "must be owner" in refused(statement), statement
