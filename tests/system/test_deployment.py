"""The package in a real systemd: installed, given settings, watched, upgraded under load, removed."""

import os
import re
import shutil
import subprocess
import time

import pytest

from bed.outage import RESUME_SECONDS, check_all_served, send
from bed.process import BUILD, ROOT, wait_until
from bed.service import DEAD, REQUESTS
from bed.systemd_box import SystemdBox, Unavailable

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment")]

ETC = "/etc/portal-worker"
CREDENTIALS = f"{ETC}/credentials"
PLAIN = "portal-worker.service"
PAIR = ["portal-worker@1.service", "portal-worker@2.service"]
EXPOSURE = 1.2
SESSIONS = "/v1/billing_portal/sessions"
NEW_KEY = "sk_test_portal_rotated"
IN_HAND = 500
SLOWEST_SECONDS = 3


def package():
    done = subprocess.run(["flock", BUILD / ".lock", "make", f"BUILD={os.path.relpath(BUILD, ROOT)}", "deb"], cwd=ROOT, text=True,
                          timeout=600, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    [found] = BUILD.glob("portal-worker_*.deb")
    return found


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The package, and one that differs only in its version, to upgrade to."""
    directory = tmp_path_factory.mktemp("packages")
    old = shutil.copy(package(), directory / "old.deb")
    subprocess.run(["dpkg-deb", "--raw-extract", old, directory / "new"], check=True)
    control = directory / "new/DEBIAN/control"
    control.write_text(re.sub(r"^Version: (.*)$", r"Version: \1+next", control.read_text(), flags=re.MULTILINE))
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", directory / "new", directory / "new.deb"], check=True,
                   stdout=subprocess.DEVNULL)
    return {"old": old, "new": directory / "new.deb"}


class Deployment:
    """A box with the package, and a service whose workers run in it."""

    def __init__(self, box, service, packages):
        self.box, self.service = box, service
        for name, path in packages.items():
            shutil.copy(path, box.share / f"{name}.deb")

    def install(self, name="old"):
        return self.box.run("dpkg", "--install", f"/share/{name}.deb")

    def give(self, key=None, **changes):
        """Settings and credentials, as an operator gives them."""
        settings = {**self.service.settings(**changes), "PORTAL_LOG_LEVEL": "info"}
        self.credential("STRIPE_SECRET_KEY", key or settings["STRIPE_SECRET_KEY"])
        for name in ("AMQP_URL", "DATABASE_URL"):
            self.credential(name, settings[name])
        lines = [f"{name}={value}\n" for name, value in settings.items()
                 if name not in ("AMQP_URL", "DATABASE_URL", "STRIPE_SECRET_KEY")]
        self.box.write(f"{ETC}/portal-worker.env", "".join(lines), 0o644)

    def credential(self, name, value):
        self.box.write(f"{CREDENTIALS}/{name}", value + "\n")

    def override(self, unit, text):
        """What `systemctl edit` does."""
        self.box.write(f"/etc/systemd/system/{unit}.d/override.conf", text, 0o644)
        self.box.systemctl("daemon-reload")

    def status(self, unit):
        return self.box.show(unit, "StatusText")

    def wait_status(self, unit, *words, seconds=None):
        wait_until(lambda: all(word in self.status(unit) for word in words),
                   lambda: f"a status of {unit} with {words}; it is {self.status(unit)!r}\n{self.log()}", seconds, 0.1)

    def wait_serving(self, *units):
        for unit in units:
            self.wait_status(unit, "0 in hand")
            wait_until(lambda: "waiting" not in self.status(unit), lambda: f"{unit} to serve: {self.status(unit)}")

    def log(self, *arguments):
        return self.box.run("journalctl", "--no-pager", "-u", "portal-worker*", *arguments)

    def entries(self, message, *units):
        """Entries with the MESSAGE_ID that messages.h has under this name."""
        text = (ROOT / "include/daemon/messages.h").read_text()
        identifier = re.search(rf'MESSAGE_{message}[\s\\]+"([0-9a-f]+)"', text)[1]
        return self.box.journal(f"MESSAGE_ID={identifier}")

    def check_discreet(self):
        everything = self.box.run("journalctl", "--no-pager", "--all", "--output=export")
        secrets = [self.service.emulator.secret_key, NEW_KEY, self.service.bed.worker_password,
                   self.service.bed.database_password]
        secrets += [reply["session"]["url"] for reply in self.service.replies if reply.body.get("session")]
        assert not [secret for secret in secrets if secret in everything], "a secret or a URL is in the journal"


@pytest.fixture
def deployment(service, packages, tmp_path):
    try:
        with SystemdBox(tmp_path / "box") as box:
            service.emulator.product()
            service.declare()
            deployment = Deployment(box, service, packages)
            yield deployment
            deployment.check_discreet()
    except Unavailable as why:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(why))


@pytest.fixture
def pair(deployment):
    """Two instances that serve."""
    deployment.install()
    deployment.give()
    deployment.box.systemctl("disable", "--now", PLAIN)
    deployment.box.systemctl("enable", "--now", *PAIR)
    deployment.wait_serving(*PAIR)
    return deployment


def test_lintian_finds_nothing_wrong_with_the_package(packages, tmp_path):
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", packages["old"]], text=True,
                          timeout=120, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "TMPDIR": str(tmp_path)})  # where it leaves a file behind
    assert done.returncode == 0, done.stdout
    text = subprocess.run(["dpkg-deb", "--fsys-tarfile", packages["old"]], stdout=subprocess.PIPE, check=True).stdout
    licence = subprocess.run(["tar", "--extract", "--to-stdout", "./usr/share/doc/portal-worker/copyright"],
                             input=text, stdout=subprocess.PIPE, check=True).stdout
    assert b"No licence has been granted yet" in licence


def test_a_worker_waits_for_its_settings_then_serves_in_its_sandbox(deployment):
    box, service = deployment.box, deployment.service
    deployment.install()
    assert box.show(PLAIN, "ActiveState") == "inactive" and box.show(PLAIN, "Result") == "success"
    assert box.systemctl("is-enabled", PLAIN).strip() == "enabled"
    assert box.systemctl("is-active", "portal-worker-purge.timer").strip() == "active"

    deployment.give()
    [example] = re.findall(r"^# (systemd-run .*--check)$", (ROOT / "systemd/man/portal-worker.8").read_text(),
                           re.MULTILINE | re.DOTALL)
    checked = box.run("bash", "-euc", example.replace("\\e\n", "\\\n"))
    assert checked.count(": ok\n") == 3, checked
    box.systemctl("start", PLAIN)
    assert service.ask({"team_id": service.team()})["outcome"] == "created"
    deployment.wait_status(PLAIN, "in hand", "requests/s")
    exposure = box.run("systemd-analyze", "security", "--no-pager", f"--threshold={EXPOSURE * 10:.0f}", PLAIN)
    print(exposure.splitlines()[-1])
    assert float(re.search(r"Overall exposure level .*: ([\d.]+)", exposure)[1]) <= EXPOSURE
    [done] = deployment.entries("REQUEST_DONE")
    assert done["OUTCOME"] == "created" and done["TEAM_ID"].isdigit() and float(done["DURATION_MS"]) > 0
    assert box.show(PLAIN, "LogRateLimitIntervalUSec") == "0", "no entry of a request is left out"
    assert done["REQUEST_ID"] and done["STRIPE_REQUEST_ID"].startswith("req_")
    assert done["_SYSTEMD_UNIT"] == PLAIN and done["PRIORITY"] == "6"
    exporter = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]  # another user, who may read it
    wait_until(lambda: 'portal_build_info{worker="portal-worker",' in
               box.run(*exporter, "cat", "/run/portal-worker/portal-worker.prom", check=False), "metrics")
    box.systemctl("reload", PLAIN)
    wait_until(lambda: deployment.entries("REREAD"), "settings to be read again")
    box.systemctl("stop", PLAIN)
    assert box.show(PLAIN, "Result") == "success" and box.show(PLAIN, "NRestarts") == "0"


def test_a_wrong_setting_is_told_once(deployment):
    deployment.install()
    deployment.give(PORTAL_CONCURRENCY="many")
    deployment.box.systemctl("start", PLAIN, check=False)
    wait_until(lambda: deployment.box.show(PLAIN, "ActiveState") == "failed", "the unit to fail")
    assert deployment.box.show(PLAIN, "ExecMainStatus") == "78" and deployment.box.show(PLAIN, "NRestarts") == "0"
    [entry] = deployment.entries("SETTINGS")
    assert "PORTAL_CONCURRENCY" in entry["MESSAGE"] and "many" in entry["MESSAGE"]
    assert "/etc/portal-worker/portal-worker.env" in deployment.log("-x")


def test_keys_rotate_by_restarting_one_instance_after_the_other(pair):
    service, box = pair.service, pair.box
    old = service.emulator.secret_key
    teams = service.teams(200)
    sent = send(service, 100, teams)
    service.emulator.keys(accept=[old, NEW_KEY])
    pair.credential("STRIPE_SECRET_KEY", NEW_KEY)
    for unit in PAIR:
        box.systemctl("restart", unit)
        sent += send(service, 100, teams)
    pair.wait_serving(*PAIR)
    last = max(call["n"] for call in service.emulator.calls())
    service.emulator.keys(accept=[NEW_KEY])
    sent += send(service, 100, teams)
    check_all_served(service, sent)
    suffixes = {call["api_key_suffix"] for call in service.emulator.session_calls() if call["n"] > last}
    assert len(suffixes) == 1 and NEW_KEY.endswith(suffixes.pop())
    assert service.emulator.counters()["refused"] == 0


def test_a_loop_that_hangs_is_restarted_by_the_watchdog(pair):
    service, box = pair.service, pair.box
    teams = service.teams(100)
    pair.override("portal-worker@1.service", "[Service]\nWatchdogSec=4\n")
    box.systemctl("restart", PAIR[0])
    pair.wait_serving(*PAIR)
    first = box.show(PAIR[0], "MainPID")
    box.run("kill", "-STOP", first)
    sent = send(service, 200, teams)
    wait_until(lambda: box.show(PAIR[0], "MainPID") not in ("0", first) and
               box.show(PAIR[0], "ActiveState") == "active", lambda: f"a restart\n{pair.log()}", 60, every=0.2)
    assert "Watchdog timeout" in pair.log()
    assert box.show(PAIR[0], "NRestarts") == "1" and box.show(PAIR[1], "NRestarts") == "0"
    check_all_served(service, sent)


def test_a_worker_that_boots_without_rabbitmq_serves_as_soon_as_it_is_there(deployment):
    service, box = deployment.service, deployment.box
    deployment.install()
    deployment.give()
    service.bed.rabbitmq.stop()
    box.systemctl("start", "multi-user.target")  # what a boot does; the unit is enabled
    assert box.show(PLAIN, "ActiveState") == "active"
    deployment.wait_status(PLAIN, "Paused", "waiting for RabbitMQ since")
    main = box.show(PLAIN, "MainPID")
    service.bed.rabbitmq.start()
    service.bed.rabbitmq.wait_ready()
    deployment.wait_status(PLAIN, "Ready", seconds=RESUME_SECONDS)
    service.connect()
    assert service.ask({"team_id": service.team()})["outcome"] == "created"
    assert box.show(PLAIN, "MainPID") == main and box.show(PLAIN, "NRestarts") == "0"
    [paused] = [entry for entry in deployment.entries("PAUSED") if entry["LINK"] == "broker"][:1]
    assert paused["PRIORITY"] == "4" and "RabbitMQ" in paused["MESSAGE"]
    explained = deployment.log("-x", "-g", "waiting for RabbitMQ")
    print(explained)
    assert "rabbitmqctl list_alarms" in explained


def test_stopping_with_five_hundred_in_hand_loses_none(deployment):
    service, box = deployment.service, deployment.box
    deployment.install()
    deployment.give(PORTAL_CONCURRENCY=str(2 * IN_HAND), STRIPE_CONCURRENCY=str(2 * IN_HAND))
    deployment.override(PLAIN, "[Service]\nTimeoutStopSec=1\n")  # the worker asks for more itself
    box.systemctl("start", PLAIN)
    deployment.wait_serving(PLAIN)
    teams = service.teams(IN_HAND)
    assert service.ask({"team_id": teams[0]})["outcome"] == "created", "the configuration is known"
    service.emulator.fault(SESSIONS, delay_ms=SLOWEST_SECONDS * 1000)
    sent = send(service, 2 * IN_HAND, teams)
    wait_until(lambda: int(re.search(r"(\d+) in hand", deployment.status(PLAIN))[1]) >= IN_HAND,
               lambda: f"requests in hand: {deployment.status(PLAIN)}", every=0.05)
    began = time.monotonic()
    box.systemctl("stop", PLAIN)
    took = time.monotonic() - began
    [stopping] = deployment.entries("STOPPING")
    print(f"{stopping['MESSAGE']}; stopped after {took:.1f} s, with calls of {SLOWEST_SECONDS} s")
    assert int(re.search(r"(\d+) requests in hand", stopping["MESSAGE"])[1]) >= IN_HAND
    assert took < 3 * SLOWEST_SECONDS and box.show(PLAIN, "Result") == "success"
    service.emulator.clear_faults()
    box.systemctl("start", PLAIN)
    check_all_served(service, sent)


def test_an_upgrade_under_load_answers_everything_and_removal_leaves_nothing(pair):
    service, box = pair.service, pair.box
    teams = service.teams(500)
    service.emulator.fault(SESSIONS, delay_ms=1000)
    mains = [box.show(unit, "MainPID") for unit in PAIR]
    sent = send(service, 5000, teams)
    pair.install("new")
    left = service.queue_depth(REQUESTS)
    print(f"{left} of {len(sent)} requests were still to be answered after the upgrade")
    assert 0 < left < len(sent), "it was under load"
    assert "+next" in box.run("dpkg-query", "--show", "--showformat=${Version}", "portal-worker")
    for unit, main in zip(PAIR, mains):
        assert box.show(unit, "MainPID") not in ("0", main), "it runs the new version"
        assert box.show(unit, "NRestarts") == "0"
    assert box.show(PLAIN, "ActiveState") == "inactive", "what was disabled stays so"
    sent += send(service, 100, teams)
    check_all_served(service, sent)

    box.run("dpkg", "--remove", "portal-worker")
    assert box.systemctl("list-units", "--plain", "--no-legend", "portal-worker*").strip() == ""
    assert box.run("sh", "-c", "ls -d /usr/bin/portal* /lib/systemd/system/portal* /run/portal* 2>/dev/null || true") == ""
    assert box.run("ls", CREDENTIALS).split() == ["AMQP_URL", "DATABASE_URL", "STRIPE_SECRET_KEY"], "settings stay"
    box.run("dpkg", "--purge", "portal-worker")
    left = box.run("find", "/etc", "/lib", "/run", "/usr", "/var", "-name", "*portal-worker*")
    assert left == "", "nothing is left"


@pytest.mark.refused
def test_the_journal_says_what_to_do_about_a_bad_key_and_a_dead_letter(deployment):
    service = deployment.service
    deployment.install()
    deployment.give(key="sk_test_revoked")
    deployment.box.systemctl("start", PLAIN)
    request = service.request({"team_id": service.team()})
    deployment.wait_status(PLAIN, "Paused", "waiting for Stripe")
    assert "STRIPE_SECRET_KEY" in deployment.status(PLAIN)
    explained = deployment.log("-x")
    print(explained)
    assert f"{CREDENTIALS}/STRIPE_SECRET_KEY and restart the" in explained
    assert service.queue_depth(DEAD) == 0

    deployment.credential("STRIPE_SECRET_KEY", service.emulator.secret_key)
    deployment.box.systemctl("restart", PLAIN)
    assert service.wait_reply(request)["outcome"] == "created"
    assert service.ask({"team_id": "seventeen"})["error"]["code"] == "invalid_request"
    service.wait_dead_letters(1)
    [letter] = wait_until(lambda: deployment.entries("DEAD_LETTER"), "the dead letter to be told")
    assert letter["CODE"] == "invalid_request" and "team_id" in letter["MESSAGE"]
    explained = deployment.log("-x", "-g", "portal.dead")
    print(explained)
    assert "portalctl dead list" in explained and "drop the letter" in explained


def test_the_timer_purges(deployment):
    service, box = deployment.service, deployment.box
    deployment.install()
    deployment.give()
    box.systemctl("start", PLAIN)
    replies = [service.ask({"team_id": team}) for team in service.teams(3)]
    box.systemctl("stop", PLAIN)
    service.query("UPDATE portal.sessions SET url_expires_at = now() - interval '1 s'")
    service.query("UPDATE portal.sessions SET answered_at = now() - interval '31 days', "
                  "stands_until = now() - interval '31 days' WHERE request_id = %s", [replies[0]["request_id"]])
    deployment.override("portal-worker-purge.timer",
                        "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\nRandomizedDelaySec=0\nAccuracySec=100ms\n")
    box.systemctl("restart", "portal-worker-purge.timer")
    wait_until(lambda: len(service.sessions()) == 2 and not any(row["url"] for row in service.sessions()),
               lambda: f"expired URLs and old rows to go\n{deployment.log()}", every=0.2)
    assert box.show("portal-worker-purge.service", "Result") == "success"
    exposure = box.run("systemd-analyze", "security", "--no-pager", "portal-worker-purge.service")
    assert float(re.search(r"Overall exposure level .*: ([\d.]+)", exposure)[1]) <= EXPOSURE
