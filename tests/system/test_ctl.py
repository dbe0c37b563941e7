"""portalctl as a whole: help, wrong use, settings, what can't be reached, rights, colours. The other test_ctl_*.py try its
commands one by one, with the helpers here."""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import time

import pytest

from bed.process import BUILD, PATIENCE, ROOT, WITH_US, environment, wait_until
from bed.worker import run

COMMANDS = [["status"], ["check"], ["sessions"], ["retry"], ["dead"], ["dead", "list"], ["dead", "show"], ["dead", "requeue"],
            ["dead", "drop"], ["request"], ["replay"], ["capture"], ["migrate"], ["purge"]]
# Each command as it would be used, and the settings that it needs.
USED = [(["request", "--team", "1"], {"AMQP_URL"}), (["replay", "FILE"], {"AMQP_URL"}), (["capture"], {"AMQP_URL"}),
        (["dead", "list"], {"AMQP_URL"}), (["dead", "show"], {"AMQP_URL"}), (["dead", "drop", "--all", "--yes"], {"AMQP_URL"}),
        (["dead", "requeue", "--all"], {"AMQP_URL"}), (["retry", "r-1"], {"AMQP_URL", "DATABASE_URL"}),
        (["sessions"], {"DATABASE_URL"}), (["purge"], {"DATABASE_URL"}), (["status"], {"AMQP_URL", "DATABASE_URL"})]
DONE, FAILED, REDIRECT, REFUSED, RETRYABLE = range(5)
USAGE, BAD_FILE, NO_FILE, UNAVAILABLE, LATE, DENIED, SETTINGS, INTERRUPTED = 64, 65, 66, 69, 75, 77, 78, 130


class Result:
    """What a run of portalctl gave."""

    def __init__(self, status, output, errors):
        self.status, self.output, self.errors = status, output, errors

    @property
    def json(self):
        return json.loads(self.output)

    @property
    def lines(self):
        return [json.loads(line) for line in self.output.splitlines()]

    def __repr__(self):
        return f"exit status {self.status}\n--- output\n{self.output}\n--- errors\n{self.errors}"


def portalctl(service, *arguments, seconds=PATIENCE, **changes):
    """Runs it with the settings of the service's workers."""
    return Result(*run(service.settings(**changes), *arguments, seconds=seconds, program="portalctl"))


def start(service, *arguments, env=None, **options):
    """Starts it, with more in the environment where wanted; output and errors are pipes unless told otherwise."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*WITH_US, BUILD / "portalctl", *map(str, arguments)], text=True, cwd="/",
                            env=environment(**service.settings(**(env or {}))), **streams)


def finish(process, seconds=PATIENCE):
    output, errors = process.communicate(timeout=seconds)
    return Result(process.returncode, output, errors)


def on_terminal(service, *arguments, seconds=PATIENCE, answer=None, **more):
    """Runs it on a terminal of its own; returns the exit status and all that the terminal showed."""
    leader, follower = pty.openpty()
    settings = environment(**{"TERM": "xterm", **service.settings(), **more})
    process = subprocess.Popen([BUILD / "portalctl", *map(str, arguments)], env=settings, cwd="/", stdin=follower,
                               stdout=follower, stderr=follower, start_new_session=True)
    os.close(follower)
    shown, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if not select.select([leader], [], [], 0.1)[0]:
            continue
        try:
            shown += os.read(leader, 65536)
        except OSError:  # the last of those who had it open has ended
            break
        if answer and b"[y/N]" in shown:
            os.write(leader, answer)
            answer = None
    os.close(leader)
    return process.wait(seconds), shown.decode()


# --- help and wrong use ---

@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_says_how_it_is_used_with_examples(command):
    status, output, errors = run({}, *command, "--help", program="portalctl")
    assert (status, errors) == (0, "")
    assert output.startswith(f"Usage: portalctl {' '.join(command)}")
    assert re.search(rf"^Examples?:\n  .*portalctl {' '.join(command)}", output, re.MULTILINE)
    assert max(map(len, output.splitlines())) <= 100


def test_help_leads_from_a_failed_request_to_its_replay():
    _, output, _ = run({}, "--help", program="portalctl")
    for words in ("sessions --outcome failed", "retry", "dead list", "dead requeue", "AMQP_URL", "DATABASE_URL", "NO_COLOR"):
        assert words in output


def test_without_a_command_the_help_goes_to_standard_error():
    _, wanted, _ = run({}, "--help", program="portalctl")
    assert run({}, program="portalctl") == (USAGE, "", wanted)
    assert run({}, "dead", program="portalctl")[0] == USAGE
    assert re.fullmatch(r"portalctl \d+\.\d+\.\d+\n", run({}, "--version", program="portalctl")[1])


def test_what_could_not_be_written_is_no_success(service):
    with open("/dev/full", "w") as full:
        result = finish(start(service, "sessions", "--help", stdout=full))
    assert (result.status, result.errors) == (FAILED, "portalctl: standard output: No space left on device\n")


def test_a_stream_that_is_closed_gets_nothing_else_in_its_place(service):
    service.declare()

    def start_with(redirection, *arguments):
        command = [*WITH_US, "bash", "-c", f'exec "$0" "$@" {redirection}', BUILD / "portalctl", *arguments]
        return subprocess.Popen(command, env=environment(**service.settings()), text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def streams(process):
        with contextlib.suppress(OSError):
            return [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)]

    recording = start_with("<&- >&- 2>&-", "capture")
    try:
        wait_until(lambda: streams(recording) == ["/dev/null"] * 3, lambda: f"nothing in them, and not {streams(recording)}")
    finally:
        recording.kill()
        recording.communicate()
    closed = start_with(">&-", "--version")
    _, errors = closed.communicate(timeout=PATIENCE)
    assert closed.returncode == FAILED and "standard output: Bad file descriptor" in errors


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=lambda command: " ".join(command) or "none")
def test_an_unknown_option_is_refused_with_a_hint(command):
    status, output, errors = run({}, *command, "--frobnicate", program="portalctl")
    assert (status, output) == (USAGE, "")
    assert "frobnicate" in errors and f"\"{' '.join(['portalctl', *command])} --help\"" in errors


@pytest.mark.parametrize("arguments, words", [
    (["frobnicate"], "frobnicate"), (["dead", "frobnicate"], "frobnicate"), (["replay"], "which file"),
    (["retry"], "which requests"), (["dead", "requeue"], "which ones"), (["dead", "drop", "--yes"], "which ones"),
    (["dead", "drop", "--all"], "--yes"), (["dead", "requeue", "--reason", "expired,stripe_gone"], "stripe_gone"), (["status", "now"], "now"), (["purge", "--older-than", "soon"], "soon"),
    (["sessions", "--since", "yesterday"], "yesterday"), (["sessions", "--outcome", "good"], "good"),
    (["sessions", "--team", "-1"], "-1"), (["sessions", "a b"], "a b"), (["dead", "list", "--team", "x"], "x"),
    (["replay", "--rate", "many", "-"], "many"), (["replay", "--concurrency", "0", "-"], "0"),
    (["replay", "--run", "a b", "-"], "a b"), (["status", "--watch=0"], "watch"), (["capture", "r-1"], "--dead"),
    (["request", "--team", "1", "--reply-to", "q"], "--no-wait"), (["request", "--team", "1", "--no-wait", "--reply-to", ""], "empty"),
    (["request", "--team", "1", "extra"], "extra"),
    (["request", "--team", "1", "--subscription", "sub_1"], "--flow"), (["capture", "--for", "0"], "--for"),
    (["dead", "drop", "--reason", "", "--since", "1h", "--yes"], "--reason is empty"),
])
def test_wrong_use_is_named(arguments, words):
    status, output, errors = run({}, *arguments, program="portalctl")
    assert (status, output) == (USAGE, "")
    assert words in errors and "--help" in errors


# --- settings, connections, rights ---

@pytest.fixture
def file(tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text('{"request": {"request_id": "file-{run}", "team_id": 1}}\n')
    return path


def filled(arguments, file):
    return [file if one == "FILE" else one for one in arguments]


@pytest.mark.parametrize("arguments, needed", USED, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_only_the_settings_that_it_needs_are_asked_for(file, arguments, needed):
    status, output, errors = run({"PORTALCTL_SETTINGS": "/nowhere"}, *filled(arguments, file), program="portalctl")
    assert (status, output) == (SETTINGS, "")
    assert re.findall(r"portalctl: ([A-Z_]+) is not set", errors)[0] in needed
    assert not re.search(r"STRIPE|\bBASE_URL", errors)


@pytest.mark.parametrize("arguments, needed", USED, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_is_not_there_is_named_with_a_next_step_and_without_a_password(file, arguments, needed):
    away = {"AMQP_URL": "amqp://portal:top5ecret@127.0.0.1:1/", "DATABASE_URL": "postgresql://portal:top5ecret@127.0.0.1:1/x"}
    status, output, errors = run({name: away[name] for name in needed}, *filled(arguments, file), program="portalctl")
    assert status == UNAVAILABLE
    assert "127.0.0.1" in output + errors and "5ecret" not in output + errors
    assert "portalctl check" in errors or arguments == ["status"]


@pytest.fixture
def mute():
    """A port where connections are taken, and nobody ever answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("arguments, setting", [
    (["dead", "list"], "AMQP_URL"), (["request", "--team", "1"], "AMQP_URL"), (["capture"], "AMQP_URL"),
    (["status", "--watch"], "AMQP_URL"), (["retry", "r-1"], "DATABASE_URL")], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_ctrl_c_ends_a_vain_attempt_to_connect_at_once(service, mute, arguments, setting):
    url = {"AMQP_URL": f"amqp://127.0.0.1:{mute}/", "DATABASE_URL": f"postgresql://127.0.0.1:{mute}/x"}[setting]
    connecting = start(service, *arguments, env={setting: url})
    wait_until(lambda: f"{mute:04X} 01 " in connections(connecting), "the connection")
    connecting.send_signal(signal.SIGTERM)  # as Ctrl-C, which jobs in the background may not get
    began = time.monotonic()
    assert finish(connecting).status == -signal.SIGTERM and time.monotonic() - began < 3, "not only after 10 s"


def connections(process):
    """The process' TCP connections, as the kernel lists them: each with the other end's port and its state."""
    own = set()
    for link in pathlib.Path(f"/proc/{process.pid}/fd").glob("*"):
        with contextlib.suppress(OSError):  # it is closed by now
            own.add(os.readlink(link))
    lines = [line.split() for line in open("/proc/net/tcp").read().splitlines()[1:]]
    return "".join(f"{words[2]} {words[3]} " for words in lines if f"socket:[{words[9]}]" in own)


def test_the_time_to_wait_counts_for_the_first_connection_too(service, mute):
    result = portalctl(service, "request", "--team", "1", "--timeout", "1s", AMQP_URL=f"amqp://127.0.0.1:{mute}/", seconds=8)
    assert result.status == UNAVAILABLE and "does not answer in time" in result.errors


def test_settings_of_the_installed_units_are_found(service, tmp_path):
    (tmp_path / "credentials").mkdir()
    for name in ("AMQP_URL", "DATABASE_URL"):
        (tmp_path / "credentials" / name).write_text(service.settings()[name] + "\n")
    assert run({"PORTALCTL_SETTINGS": tmp_path}, "sessions", program="portalctl")[0] == DONE, "also without more settings"
    (tmp_path / "portal-worker.env").write_text("# remark\nno setting\n=\nlower=x\nBASE_URL='https://app.example.com' \t\n"
                                                'PORTAL_NAMESPACE="\nPORTAL_DEADLINE_SECONDS=soon\n')
    service.declare()
    installed = {"PORTALCTL_SETTINGS": tmp_path}
    status, _, errors = run(installed, "sessions", program="portalctl")
    assert (status, errors) == (DONE, "no answers\n")
    status, _, errors = run(installed, "retry", "r-1", program="portalctl")
    assert status == SETTINGS and 'PORTAL_DEADLINE_SECONDS is "soon"' in errors
    status, _, errors = run({**installed, "PORTAL_DEADLINE_SECONDS": "60"}, "dead", "requeue", "--all", program="portalctl")
    assert status == DONE, errors
    status, _, errors = run({**installed, "AMQP_URL": "amqp://127.0.0.1:1"}, "sessions", program="portalctl")
    assert status == SETTINGS, "what is in the environment is not mixed with them"


def test_a_wrong_password_is_a_matter_of_rights(service):
    wrong = service.amqp_url.replace(":" + service.bed.worker_password, ":top5ecret")
    result = portalctl(service, "dead", "list", AMQP_URL=wrong)
    assert result.status == DENIED and "refuses user or password" in result.errors and "5ecret" not in result.errors
    assert "Put user, password and virtual host in AMQP_URL right" in result.errors, "rights are not what is missing"
    wrong = service.database_url.replace(":" + service.bed.database_password, ":top5ecret")
    result = portalctl(service, "sessions", DATABASE_URL=wrong)
    assert result.status == DENIED and "refuses the user or password" in result.errors and "5ecret" not in result.errors
    assert "Put user, password and database in DATABASE_URL right" in result.errors
    without = service.database_url.replace(":" + service.bed.database_password, "")
    result = portalctl(service, "sessions", DATABASE_URL=without)
    assert result.status == DENIED and "DATABASE_URL has none" in result.errors


def test_a_virtual_host_or_database_that_is_not_there_is_named(service):
    result = portalctl(service, "dead", "list", AMQP_URL=service.amqp_url + "_absent")
    assert result.status == DENIED and "refuses the virtual host" in result.errors and "AMQP_URL right" in result.errors
    result = portalctl(service, "sessions", DATABASE_URL=service.database_url + "_absent")
    assert result.status == DENIED and "does not have the database" in result.errors and "DATABASE_URL right" in result.errors


@pytest.mark.parametrize("arguments", [one for one, needed in USED if needed == {"AMQP_URL"}], ids=" ".join)
def test_a_missing_right_at_the_broker_is_named(service, file, arguments):
    service.declare()
    service.request(raw=b"not JSON", reply_to=None)  # something for portal.dead
    service.start_worker()
    service.wait_empty()
    service.bed.rabbitmq.set_permissions(service.name, "portal", configure="^$", write="^$", read="^$")
    try:
        result = portalctl(service, *filled(arguments, file))
    finally:
        service.bed.rabbitmq.set_permissions(service.name, "portal")
    assert result.status == DENIED, result
    assert "ACCESS_REFUSED" in result.errors and "rabbitmqctl list_permissions" in result.errors


@pytest.mark.parametrize("arguments", [["sessions"], ["purge"], ["retry", "r-1"]], ids=" ".join)
def test_a_missing_right_in_the_database_is_named(service, arguments):
    service.declare()
    service.query("CREATE ROLE nobody_of_portal LOGIN PASSWORD 'x'")
    try:
        result = portalctl(service, *arguments, DATABASE_URL=service.bed.postgres.url(service.name, "nobody_of_portal", "x"))
    finally:
        service.query("DROP ROLE nobody_of_portal")
    assert result.status == DENIED and "GRANT portal_worker" in result.errors, result


def test_a_missing_schema_is_named(service):
    service.query("DROP SCHEMA portal CASCADE")
    result = portalctl(service, "sessions")
    assert result.status == FAILED and "portalctl migrate" in result.errors, result


# --- the terminal ---

def test_colours_are_for_terminals_only(service):
    service.emulator.product()
    team = service.team()
    service.start_worker()
    service.ask({"team_id": team})
    assert "\033[" not in portalctl(service, "sessions").output
    status, shown = on_terminal(service, "sessions")
    assert status == 0 and "\033[32mcreated" in shown
    status, shown = on_terminal(service, "sessions", NO_COLOR="1")
    assert status == 0 and "\033[" not in shown and "created" in shown


def test_what_strangers_wrote_does_not_reach_the_terminal_as_it_is(service):
    service.start_worker()
    service.request(raw=b"\033[2J\033]0;owned\007", reply_to=None, message_id="\033[31mred", correlation_id="\033[2Jx")
    service.request({"request_id": "r-1", "team_id": 1, "locale": "\x9b2J\x7f\xa0"}, reply_to=None, type="\x9d0;owned")  # C1
    service.wait_empty()
    for command in ("list", "show"):
        _, shown = on_terminal(service, "dead", command)
        assert "\033[2J" not in shown and "\033]0" not in shown and "\033[31mred" not in shown
        assert not set(shown) & {"\x9b", "\x9d", "\x7f"}
        assert "owned" in shown or command == "list"


# --- man page and completion ---

def options_of(command):
    _, output, _ = run({}, *command, "--help", program="portalctl")
    return set(re.findall(r"^  (--[a-z-]+)", output, re.MULTILINE))


def test_the_man_page_has_every_command_and_option():
    page = subprocess.run(["mandoc", "-T", "utf8", ROOT / "systemd/man/portalctl.1"], check=True, text=True, stdout=subprocess.PIPE,
                          env=environment()).stdout
    page = re.sub(r".\010", "", page).replace("‐", "-")
    for command in COMMANDS:
        missing = {option for option in options_of(command) if option not in page}
        assert " ".join(command) in page and not missing, (command, missing)


def complete(*words):
    script = f"source {ROOT}/systemd/completion/portalctl.bash\nCOMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))\n_portalctl\n" \
             'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-euc", script, "bash", BUILD / "portalctl", *words], check=True, text=True,
                          stdout=subprocess.PIPE, env=environment(), cwd=ROOT)
    return set(done.stdout.split())


def test_completion_offers_every_command_and_option():
    assert complete("") == {command[0] for command in COMMANDS} and complete("dead", "") == {"list", "show", "requeue", "drop"}
    assert complete("re") == {"retry", "request", "replay"} and complete("--") == {"--help", "--version"}
    for command in COMMANDS:
        assert complete(*command, "--") == options_of(command) | {"--help"}
    assert complete("dead", "list", "--reason", "ex") == {"expired"}
    assert complete("sessions", "--limit", "5", "--outcome", "") == {"created", "reused", "redirect", "failed"}
    assert "README.md" in complete("replay", "--check", "READ")


def test_the_rights_that_the_man_page_names_suffice(service):
    page = (ROOT / "systemd/man/portalctl.1").read_text().replace("\\e", "\\")
    configure, write, read = re.findall(r"^    '(\^\(portal.*?\)\$)'", page, re.MULTILINE)
    service.emulator.product()
    service.bed.rabbitmq.set_permissions(service.name, "portal", *(one.replace("\\", "\\\\") for one in (configure, write, read)))
    service.start_worker()
    service.declare()
    team = service.team()
    assert portalctl(service, "request", "--team", str(team)).status == DONE
    service.request(raw=b"x", reply_to=None)
    service.request({"request_id": "r-1", "team_id": team}, reply_to="portal.replies")
    service.wait_empty()
    wait_until(lambda: service.query("SELECT 1 FROM portal.workers"), "a sign of life")
    for arguments in (["capture", "--for", "1s"], ["dead", "list"], ["dead", "requeue", "--all", "--force"], ["status"],
                      ["retry", "--force", "r-1"], ["dead", "drop", "--all", "--yes"]):
        result = portalctl(service, *arguments)
        assert result.status == DONE, (arguments, result)
