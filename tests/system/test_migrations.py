"""`portalctl migrate` says plainly what is wrong, and touches nothing then."""

import os
import shutil
import subprocess

import pytest

from bed.process import BUILD, ROOT, environment

FILES = sorted((ROOT / "sql").glob("[0-9]*.sql"))


def run(*arguments, **settings):
    """With the migrations of the source, unless told of others."""
    return subprocess.run([BUILD / "portalctl", "migrate", "--directory", ROOT / "sql", *arguments], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**settings))


@pytest.fixture
def databases(bed):
    """Makes databases with the application's tables (or without) that go away with the test."""
    bed.heal()
    made = []

    def make(tables=True, options=""):
        name = f"portal_migrations_{os.getpid()}_{len(made)}"
        bed.postgres.execute(f"CREATE DATABASE {name} OWNER application TEMPLATE template0 {options}")
        made.append(name)
        if tables:
            bed.postgres.load(bed.owner_url(name), ROOT / "sql/application/starter.sql")
        return name

    yield make
    for name in made:
        bed.drop_database(name)


@pytest.fixture
def files(tmp_path):
    """A copy of the migrations, to be spoiled."""
    for path in FILES:
        shutil.copy(path, tmp_path)
    return tmp_path


def value(bed, database, statement):
    connection = bed.postgres.connect(database)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0]
    finally:
        connection.close()


def test_it_says_what_it_applied(bed, databases):
    database = databases()
    first, second = run(DATABASE_URL=bed.owner_url(database)), run(DATABASE_URL=bed.owner_url(database))
    assert first.stdout.splitlines() == [f"applied {path.name}" for path in FILES] + ["up to date"]
    assert (second.returncode, second.stdout, second.stderr) == (0, "up to date\n", "")


def test_only_what_is_missing_is_applied(bed, databases, files):
    database = databases()
    last = files / FILES[-1].name
    text = last.read_text()
    last.unlink()
    assert run("--directory", files, DATABASE_URL=bed.owner_url(database)).returncode == 0
    last.write_text(text)
    done = run("--directory", files, DATABASE_URL=bed.owner_url(database))
    assert (done.returncode, done.stdout) == (0, f"applied {last.name}\nup to date\n")


def test_a_database_that_is_newer_than_the_program_is_left_alone(bed, databases, files):
    database = databases()
    assert run(DATABASE_URL=bed.owner_url(database)).returncode == 0
    (files / FILES[-1].name).unlink()
    done = run("--directory", files, DATABASE_URL=bed.owner_url(database))
    assert done.returncode == 1 and "too old" in done.stderr and FILES[-1].name in done.stderr
    assert done.stdout == ""


def test_without_the_applications_tables_file_line_and_reason_are_told(bed, databases):
    done = run(DATABASE_URL=bed.owner_url(databases(tables=False)))
    views = next(path for path in FILES if "public.teams" in path.read_text())
    line = next(n for n, text in enumerate(views.read_text().splitlines(), 1) if "public.teams" in text)
    assert done.returncode == 1
    assert f"{views.name}:{line}: relation \"public.teams\" does not exist" in done.stderr
    assert "The application's tables come first" in done.stderr


def test_a_database_of_another_encoding_is_refused(bed, databases):
    done = run(DATABASE_URL=bed.owner_url(databases(options="ENCODING 'LATIN1' LOCALE 'C'")))
    assert done.returncode == 1 and "LATIN1" in done.stderr and "UTF8" in done.stderr


def test_databases_of_one_cluster_may_migrate_at_once(bed, databases, files):
    """They share the role, which none of them has yet: a role of another name, as other tests use the real one."""
    role = f"portal_worker_{os.getpid()}"
    for path in files.iterdir():
        path.write_text(path.read_text().replace("portal_worker", role))
    names = [databases() for _ in range(6)]
    try:
        running = [subprocess.Popen([BUILD / "portalctl", "migrate", "--directory", files], text=True,
                                    env=environment(DATABASE_URL=bed.owner_url(name)), stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT) for name in names]
        for one in running:
            output, _ = one.communicate(timeout=60)
            assert one.returncode == 0, output
        for name in names:
            assert value(bed, name, f"SELECT has_table_privilege('{role}', 'portal.sessions', 'UPDATE')")
    finally:
        for name in names:
            connection = bed.postgres.connect(name)
            connection.cursor().execute(f"DROP OWNED BY {role}" if role_exists(bed, role) else "SELECT 1")
            connection.close()
        bed.postgres.execute(f"DROP ROLE IF EXISTS {role}")


def role_exists(bed, role):
    return value(bed, "postgres", f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'") == 1


def test_who_may_not_make_the_role_is_told_what_to_ask_for(bed, databases, files):
    database, role, owner = databases(), f"portal_worker_{os.getpid()}_x", f"humble_{os.getpid()}"
    for path in files.iterdir():
        path.write_text(path.read_text().replace("portal_worker", role))
    bed.postgres.execute(f"CREATE ROLE {owner} LOGIN PASSWORD 'x'")
    try:
        bed.postgres.execute(f"ALTER DATABASE {database} OWNER TO {owner}")
        connection = bed.postgres.connect(database)
        connection.cursor().execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {owner}")
        connection.close()
        done = run("--directory", files, DATABASE_URL=bed.postgres.url(database, owner, "x"))
        assert done.returncode == 77
        assert f"CREATE ROLE {role} NOLOGIN" in done.stderr
        assert not role_exists(bed, role)
    finally:
        connection = bed.postgres.connect(database)
        connection.cursor().execute(f"REASSIGN OWNED BY {owner} TO application; DROP OWNED BY {owner}")
        connection.close()
        bed.postgres.execute(f"DROP ROLE {owner}")


def test_whoever_may_not_migrate_is_told_who_may(bed, databases):
    done = run(DATABASE_URL=bed.postgres.url(databases(), "portal", bed.database_password))
    assert done.returncode == 77 and "permission denied for database" in done.stderr
    assert "the owner of the application's database" in done.stderr


@pytest.mark.parametrize("spoil, status, expected", [
    (lambda files: (files / "002-again.sql").write_text("SELECT 1"), 65, "two files have the number 2"),
    (lambda files: (files / "9-nine.sql").write_text("SELECT 1"), 65, "called like 001-words.sql"),
    (lambda files: (files / FILES[1].name).unlink(), 65, "no migration 002"),
    (lambda files: [path.unlink() for path in files.iterdir()], 66, "no migrations"),
    (shutil.rmtree, 66, "No such file"),
    (lambda files: (files / f"{len(FILES) + 1:03}-commits.sql").write_text("COMMIT"), 65, "ended the transaction"),
    (lambda files: (files / f"{len(FILES) + 1:03}-nul.sql").write_bytes(b"SELECT 1;\0"), 65, "has a NUL"),
    (lambda files: (files / f"{len(FILES) + 1:03}-large.sql").write_bytes(b" " * (1 << 20) + b";"), 65, "larger than 1 MiB"),
    (lambda files: (files / f"{len(FILES) + 1:03}-folder.sql").mkdir(), 65, "can't be read"),
    (lambda files: (files / f"{len(FILES) + 1:03}-loop.sql").symlink_to("loop.sql"), 66, "No such file"),
    (lambda files: (files / f"{len(FILES) + 1:03}-{'x' * 60}.sql").write_text(";"), 65, "name is too long"),
], ids=["double", "badly named", "gap", "empty", "missing", "commits", "nul", "large", "folder", "dangling", "long"])
def test_files_that_make_no_sense_are_named(bed, databases, files, spoil, status, expected):
    spoil(files)
    done = run("--directory", files, DATABASE_URL=bed.owner_url(databases()))
    assert done.returncode == status and expected in done.stderr


def test_the_setting_may_be_a_credential_which_wins(bed, databases, tmp_path):
    (tmp_path / "DATABASE_URL").write_text(bed.owner_url(databases()) + "\n")
    done = run(CREDENTIALS_DIRECTORY=tmp_path, DATABASE_URL="host=/nowhere")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_setting_that_is_missing_or_wrong_is_named_without_the_password(bed):
    missing = run()
    assert missing.returncode == 78 and "DATABASE_URL" in missing.stderr
    for url in (bed.postgres.url("postgres", "application", "top5ecret"),
                "postgresql://application:top5ecret@x@127.0.0.1/postgres", "postgresql://u:top%zz5ecret@h/d",
                "top5ecret"):
        done = run(DATABASE_URL=url)
        assert done.returncode > 0 and "DATABASE_URL" in done.stderr
        assert "5ecret" not in done.stderr


def test_what_is_not_understood_is_refused():
    assert run("--bogus", DATABASE_URL="host=/nowhere").returncode == 64
    assert run("now", DATABASE_URL="host=/nowhere").returncode == 64
    assert subprocess.run([BUILD / "portalctl", "bogus"], stderr=subprocess.DEVNULL).returncode == 64
    assert "DATABASE_URL" in run("--help").stdout
