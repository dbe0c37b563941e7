"""What is installed: units, catalog, man pages, completion, the example of settings, each checked against the program."""

import os
import pathlib
import re
import subprocess

import pytest

from bed.process import BUILD, ROOT
from bed.worker import run

SYSTEMD = ROOT / "systemd"
SERVICES = ["portal-worker.service", "portal-worker@.service", "portal-worker-purge.service"]
EXPOSURE = 1.2
SECRETS = {"AMQP_URL", "DATABASE_URL", "STRIPE_SECRET_KEY"}


def command(*arguments, **options):
    return subprocess.run(list(map(str, arguments)), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=300, **options)


def make(*arguments):
    """Others may be building in this clone just now, and call the folder by this name: the dependencies have it."""
    done = command("flock", BUILD / ".lock", "make", f"BUILD={os.path.relpath(BUILD, ROOT)}", *arguments, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """All that `make install` puts somewhere, in a folder of its own."""
    directory = tmp_path_factory.mktemp("installed")
    make("install", f"DESTDIR={directory}", "PREFIX=/usr")
    return directory


@pytest.fixture(scope="module")
def units(installed, tmp_path_factory):
    """The units, with programs that are there."""
    directory = tmp_path_factory.mktemp("units")
    for unit in (installed / "usr/lib/systemd/system").iterdir():
        text = unit.read_text().replace("/usr/bin/portal", f"{installed}/usr/bin/portal")
        (directory / unit.name).write_text(text)
    return directory


def settings_in_help():
    _, output, _ = run({}, "--help")
    return set(re.findall(r"^  ([A-Z][A-Z_]+) ", output, re.MULTILINE))


# --- units ---

@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_exposed_little(units, name):
    done = command("systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}",
                   units / name)
    assert done.returncode == 0, done.stdout
    assert float(re.search(r"Overall exposure level .*: ([\d.]+)", done.stdout)[1]) <= EXPOSURE


def test_systemd_finds_nothing_wrong_with_the_units(units):
    names = sorted(path.name for path in units.iterdir())
    assert names == sorted([*SERVICES, "portal-worker-purge.timer"])
    done = command("systemd-analyze", "verify", "--man=no", *[units / name.replace("@", "@1") for name in names
                                                              if "@" not in name])
    assert (done.returncode, done.stdout) == (0, "")


def test_every_secret_is_a_credential_without_which_nothing_starts(units):
    for name in SERVICES[:2]:
        text = (units / name).read_text()
        wanted = {(secret, f"/etc/portal-worker/credentials/{secret}") for secret in SECRETS}
        assert set(re.findall(r"^LoadCredential=(\w+):(\S+)$", text, re.MULTILINE)) == wanted
        conditions = set(re.findall(r"^ConditionPathExists=(\S+)$", text, re.MULTILINE))
        assert conditions == {path for _, path in wanted} | {"/etc/portal-worker/portal-worker.env"}


# --- the catalog ---

def catalog():
    entries = {}
    for block in re.split(r"^-- ", (SYSTEMD / "portal-worker.catalog").read_text(), flags=re.MULTILINE)[1:]:
        identifier, _, text = block.partition("\n")
        assert identifier not in entries
        entries[identifier] = text
    return entries


def message_ids():
    return re.findall(r'#define MESSAGE_\w+[\s\\]+"([0-9a-f]{32})"', (ROOT / "include/daemon/messages.h").read_text())


def test_the_catalog_explains_every_message_and_no_other():
    ids = message_ids()
    assert len(ids) > 10 and len(set(ids)) == len(ids)
    assert set(catalog()) == set(ids)


def test_every_explanation_says_what_to_do():
    for identifier, text in catalog().items():
        headers, _, body = text.partition("\n\n")
        assert re.match(r"Subject: \S.*\nDefined-By: portal-worker\nDocumentation: man:", headers), identifier
        body = " ".join(body.split())
        advice = r"nothing to do|Mend|mend|see (that|whether|why|the|status)|What to do|[Tt]ell|go back|lower it"
        assert len(body) > 80 and re.search(advice, body), identifier


def test_the_catalog_uses_fields_that_the_journal_gets():
    code = (ROOT / "worker/daemon/log.c").read_text()
    known = set(re.findall(r'field\w*\(\w+, "([A-Z_]+)', code)) | set(re.findall(r'"([A-Z_]+)=%', code))
    used = set(re.findall(r"@([A-Z_]+)@", (SYSTEMD / "portal-worker.catalog").read_text()))
    assert used and used <= known


ADVICE = [SYSTEMD / "portal-worker.catalog", SYSTEMD / "prometheus/alerts.yaml", ROOT / "README.md",
          *sorted((SYSTEMD / "man").glob("*.[1-8]")), *sorted(SYSTEMD.glob("*.service"))]


@pytest.mark.parametrize("path", ADVICE, ids=lambda path: path.name)
def test_advice_is_to_run_commands_and_options_that_exist(path):
    commands = re.findall(r"^  ([a-z]+) {2,}", command(BUILD / "portalctl", "--help").stdout, re.MULTILINE)
    text = path.read_text()
    found = re.findall(r"portalctl ((?:dead )?[a-z]+)\b([^\n;`|\"]*)", text)
    for command_line, rest in found:
        words = command_line.split()
        if words[0] not in commands:
            continue  # "portalctl does …"
        done = command(BUILD / "portalctl", *words, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"Usage: portalctl {command_line}"), command_line
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
            assert re.search(rf"^  {option}\b", done.stdout, re.MULTILINE) or option == "--help", f"{command_line} {option}"
    if path.suffix in (".catalog", ".yaml", ".md"):
        assert len(found) > 3


def test_journalctl_takes_the_catalog(tmp_path):
    directory = tmp_path / "usr/lib/systemd/catalog"
    directory.mkdir(parents=True)
    (directory / "portal-worker.catalog").write_bytes((SYSTEMD / "portal-worker.catalog").read_bytes())
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    done = command("journalctl", f"--root={tmp_path}", "--update-catalog")
    assert done.returncode == 0, done.stdout
    done = command("journalctl", f"--root={tmp_path}", "--list-catalog")
    assert done.stdout.count("portal-worker") >= len(message_ids()) or \
        done.stdout.count("\n") == len(message_ids()), done.stdout


# --- documents ---

def pages():
    return sorted((SYSTEMD / "man").glob("*.[1-8]"))


def test_mandoc_finds_nothing_wrong_with_the_man_pages():
    assert {"portal-worker.5", "portal-worker.7", "portal-worker.8"} <= {page.name for page in pages()}
    done = command("mandoc", "-T", "lint", "-W", "warning", *pages())
    assert (done.returncode, done.stdout) == (0, "")


def test_the_man_page_has_every_setting_and_no_other():
    text = (SYSTEMD / "man/portal-worker.5").read_text()
    assert set(re.findall(r"^\.It Ev ([A-Z_]+)$", text, re.MULTILINE)) == settings_in_help()


def test_the_man_page_has_the_defaults_of_the_help():
    _, output, _ = run({}, "--help")
    text = (SYSTEMD / "man/portal-worker.5").read_text()
    for name, default in re.findall(r"^  ([A-Z][A-Z_]+) .*\n +default: (\S+)$", output, re.MULTILINE):
        entry = re.search(rf"^\.It Ev {name}\n(.*?)^\.(?:It|El)", text, re.MULTILINE | re.DOTALL)[1]
        for word in default.split(","):
            assert word in entry, f"{name}: {default}"


def test_the_example_has_settings_that_exist(tmp_path):
    text = (SYSTEMD / "portal-worker.env").read_text()
    named = set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    assert "BASE_URL" in named and named <= settings_in_help() - SECRETS
    settings = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))
    settings |= {"AMQP_URL": "amqp://a:b@127.0.0.1:1/", "DATABASE_URL": "postgresql://a:b@127.0.0.1:1/x",
                 "STRIPE_SECRET_KEY": "sk_test_x", "STRIPE_API_BASE": "http://127.0.0.1:1"}
    status, output, errors = run(settings, "--check")
    assert status == 1 and "error:" not in errors and "AMQP_URL: failed" in output, "every value is right"


def test_completion_offers_every_option():
    _, output, _ = run({}, "--help")
    script = f"source {SYSTEMD}/completion/portal-worker.bash; complete -p portal-worker; compgen -W " \
        "\"$(complete -p portal-worker | sed \"s/.*-W '\\(.*\\)' .*/\\1/\")\" -- --"
    done = command("bash", "-euc", script)
    assert set(done.stdout.split("\n")[1:-1]) == set(re.findall(r"^  (--\w+)", output, re.MULTILINE))


# --- install ---

def files(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


def test_installed_programs_find_what_was_installed_with_them(installed):
    assert command(installed / "usr/bin/portal-worker", "--version").stdout.startswith("portal-worker ")
    assert [path.name for path in sorted((installed / "usr/share/portal-worker/sql").glob("*.sql"))] == \
        [path.name for path in sorted((ROOT / "sql").glob("*.sql"))]
    away = {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    found = command(installed / "usr/bin/portalctl", "migrate", env=away, cwd="/")
    assert found.returncode == 69, "it has looked at them"
    lost = command(BUILD / "portalctl", "migrate", env=away, cwd="/")
    assert lost.returncode == 66 and f"{BUILD.parent}/share/portal-worker/sql: No such file" in lost.stdout, lost.stdout


def test_secrets_have_a_folder_that_only_root_reads(installed):
    assert (installed / "etc/portal-worker/credentials").stat().st_mode & 0o777 == 0o700


def test_what_is_built_is_installed_without_making_more(tmp_path):
    """So that "make && sudo make install" leaves nothing of root's in the build folder."""
    # But for what others write there meanwhile, without the lock: npm, fuzzers, chaos, benches, other kinds of builds.
    others = " -o ".join(f"-name {name}" for name in
                         (".lock", "drop-in", "corpus", "chaos-logs", "bench-node", "asan", "coverage"))
    built = f"find {BUILD} -mindepth 1 '(' {others} ')' -prune -o " \
        f"-type f -not -name '*.gcda' -printf '%p %T@\\n' | sort >{tmp_path}"
    build = f"make BUILD={os.path.relpath(BUILD, ROOT)}"
    script = f"{build} all && {built}/before && {build} DESTDIR={tmp_path}/root install && {built}/after"
    done = command("flock", BUILD / ".lock", "sh", "-ec", script, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text()


def test_whoever_builds_a_package_needs_no_servers():
    wanted = " ".join(re.findall(r"install-packages (.*)", make("--dry-run", "deb"))).split()
    assert "librabbitmq-dev" in wanted and not {"rabbitmq-server", "postgresql-15", "prometheus", "clang"} & set(wanted)


def test_uninstall_leaves_nothing_but_settings(tmp_path):
    make("install", f"DESTDIR={tmp_path}")
    assert "usr/local/bin/portal-worker" in files(tmp_path)
    page = (tmp_path / "usr/local/share/man/man8/portal-worker.8").read_text()
    assert "/usr/local/share/portal-worker/sql" in page and "/usr/share/" not in page
    assert "ExecStart=/usr/local/bin/portal-worker\n" in \
        pathlib.Path(tmp_path / "usr/local/lib/systemd/system/portal-worker@.service").read_text()
    (tmp_path / "etc/portal-worker/portal-worker.env").write_text("BASE_URL=https://app.example.com\n")
    make("uninstall", f"DESTDIR={tmp_path}")
    assert files(tmp_path) == ["etc/portal-worker/portal-worker.env"]
