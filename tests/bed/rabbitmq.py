"""A private RabbitMQ node with an epmd of its own."""

import contextlib
import json
import pathlib
import secrets
import signal
import subprocess
import time

from bed.process import Process, environment, free_port, wait_until

PROGRAMS = pathlib.Path("/usr/lib/rabbitmq/bin")

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = bed
default_pass = {password}
log.console = false
log.file.level = info
disk_free_limit.absolute = 16MB
raft.wal_max_size_bytes = 67108864
{more}
"""


class ErlangError(RuntimeError):
    """The node was not there, or could not evaluate what it was asked to."""


class RabbitMQ:
    """Listens on 127.0.0.1. add_user() and add_virtual_host() make more.

    Debian's rabbitmq-server in /usr/sbin resets HOME, and with it the Erlang cookie; the programs in
    /usr/lib/rabbitmq/bin take it from us. erl_call runs Erlang inside the node in milliseconds, where rabbitmqctl
    would take a second and more.
    """

    def __init__(self, directory, configuration=""):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.node = f"portal-{secrets.token_hex(4)}@localhost"
        self.configuration = configuration
        self.port = free_port()
        self.distribution_port = free_port()
        self.cookie = secrets.token_hex(16)
        self.epmd = self.process = None
        self.tapped = []
        self._write_files()

    def _write_files(self):
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text(self.cookie)
        cookie.chmod(0o400)
        text = CONFIGURATION.format(port=self.port, password=self.cookie, more=self.configuration)
        (self.directory / "rabbitmq.conf").write_text(text)
        self._write_taps()
        (self.directory / "enabled_plugins").write_text("[].\n")
        (self.directory / "rabbitmq-env.conf").write_text("")

    def _write_taps(self):
        names = ", ".join(f'<<"{name}">>' for name in self.tapped)
        (self.directory / "advanced.config").write_text(f"[{{rabbit, [{{trace_vhosts, [{names}]}}]}}].\n")

    @property
    def log(self):
        return self.directory.parent / "rabbitmq.log"

    def _environment(self):
        at = self.directory
        return environment(
            HOME=at, ERL_EPMD_PORT=self.epmd_port, ERL_EPMD_ADDRESS="127.0.0.1", RABBITMQ_NODENAME=self.node,
            RABBITMQ_DIST_PORT=self.distribution_port, RABBITMQ_CONF_ENV_FILE=at / "rabbitmq-env.conf",
            RABBITMQ_CONFIG_FILE=at / "rabbitmq.conf", RABBITMQ_ADVANCED_CONFIG_FILE=at / "advanced.config",
            RABBITMQ_ENABLED_PLUGINS_FILE=at / "enabled_plugins", RABBITMQ_MNESIA_BASE=at / "mnesia",
            RABBITMQ_LOG_BASE=at / "log", RABBITMQ_PID_FILE=at / "pid", RABBITMQ_GENERATED_CONFIG_DIR=at / "generated",
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
            RUNNING_UNDER_SYSTEMD="true",  # the script becomes the node, instead of waiting for it
            ERL_CRASH_DUMP=at / "crash.dump", ERL_CRASH_DUMP_SECONDS=0)

    def start(self):
        """Begins to start; wait_ready() tells when it serves."""
        if self.epmd is None or not self.epmd.alive():
            self.epmd_port = free_port()
            self.epmd = Process(["epmd", "-port", self.epmd_port, "-address", "127.0.0.1"], log=self.log,
                                env=environment(HOME=self.directory))
        self.process = Process([PROGRAMS / "rabbitmq-server"], log=self.log, env=self._environment(),
                               cwd=self.directory)

    def wait_ready(self, seconds=120):
        def serves():
            if not self.process.alive():
                raise RuntimeError(f"RabbitMQ ended:\n{self.process.tail()}")
            try:
                return self.evaluate("rabbit_boot_state:has_reached(ready)") is True
            except ErlangError:
                return False

        wait_until(serves, lambda: f"RabbitMQ to serve:\n{self.process.tail()}", seconds, every=0.1)

    def evaluate(self, expression):
        """Evaluates Erlang inside the node; the result as JSON would have it (texts are binaries, no tuples)."""
        code = f"R = begin {expression} end, io:put_chars([rabbit_json:encode(R), 10]), done.\n"
        for _ in range(20):
            output = self._erl_call(code)
            # Now and then the node turns a caller away whose like has just left; nothing was evaluated then. A busy one
            # needs a moment to notice.
            if "failed to connect" not in output or not self.process.alive():
                break
            time.sleep(0.05)
        value, _, verdict = output.rpartition("\n")
        if verdict != "{ok, done}":
            raise ErlangError(f"{expression}: {output}")
        return json.loads(value)

    def _erl_call(self, code):
        command = ["erl_call", "-c", self.cookie, "-address", f"localhost:{self.distribution_port}", "-fetch_stdout",
                   "-e"]
        return subprocess.run(command, input=code, text=True, timeout=60, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=environment(HOME=self.directory)).stdout

    def add_user(self, name, password):
        self.evaluate(f'rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"{password}">>, <<"bed">>)')

    def add_virtual_host(self, name, users):
        """Makes a virtual host in which these users may do everything."""
        self.evaluate(f'rabbit_vhost:add(<<"{name}">>, <<"bed">>)')
        for user in users:
            self.set_permissions(name, user)

    def set_permissions(self, virtual_host, user, configure=".*", write=".*", read=".*"):
        self.evaluate(f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{virtual_host}">>, '
                      f'<<"{configure}">>, <<"{write}">>, <<"{read}">>, <<"bed">>)')

    def delete_virtual_host(self, name):
        self.evaluate(f'rabbit_vhost:delete(<<"{name}">>, <<"bed">>)')

    def tap(self, virtual_host, queue):
        """From now on, and after each start, a copy of all that anybody publishes in a virtual host goes to a queue of
        this name too: RabbitMQ's firehose. Copies are not persistent, so a node that ends takes them along."""
        self.trace(virtual_host)
        self.evaluate(
            f'Queue = rabbit_misc:r(<<"{virtual_host}">>, queue, <<"{queue}">>), '
            f'{{new, _}} = rabbit_amqqueue:declare(Queue, true, false, [], none, <<"bed">>), '
            f'Trace = rabbit_misc:r(<<"{virtual_host}">>, exchange, <<"amq.rabbitmq.trace">>), '
            f'ok = rabbit_binding:add({{binding, Trace, <<"publish.#">>, Queue, []}}, <<"bed">>), 0')

    def trace(self, virtual_host):
        """Copies to the exchange amq.rabbitmq.trace; a matter of each node."""
        self.tapped.append(virtual_host)
        self._write_taps()
        self.evaluate(f'rabbit_trace:start(<<"{virtual_host}">>), 0')

    def queues(self, virtual_host):
        """By name: messages in it, those that a consumer holds included. Quorum queues only.

        Asked of each queue's leader: what rabbitmqctl lists is some seconds old.
        """
        rows = self.evaluate(
            f'[[element(4, amqqueue:get_name(Q)), '
            f'element(2, element(2, ra:leader_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1)))] '
            f'|| Q <- rabbit_amqqueue:list(<<"{virtual_host}">>), amqqueue:get_type(Q) =:= rabbit_quorum_queue]')
        return dict(rows)

    @contextlib.contextmanager
    def stalled(self, virtual_host, *queues):
        """While it lasts these quorum queues take messages and confirm none, as without a majority of their nodes. Only
        their own processes stand still, so ask nothing of them meanwhile."""
        def each(function):
            for queue in queues:
                self.evaluate(f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{virtual_host}">>, queue, '
                              f'<<"{queue}">>)), sys:{function}(amqqueue:get_pid(Q)), 0')

        each("suspend")
        try:
            yield
        finally:
            each("resume")

    def bound(self, virtual_host, exchange):
        """Names of the queues that are bound to an exchange."""
        return self.evaluate(f'[element(4, element(4, B)) || B <- rabbit_binding:list_for_source('
                             f'rabbit_misc:r(<<"{virtual_host}">>, exchange, <<"{exchange}">>))]')

    def queue_arguments(self, virtual_host):
        """By name: the optional arguments that a queue was declared with."""
        rows = self.evaluate(
            f'[[element(4, proplists:get_value(name, I)), maps:from_list([{{K, V}} || {{K, _, V}} <- '
            f'proplists:get_value(arguments, I)])] || I <- rabbit_amqqueue:info_all(<<"{virtual_host}">>, '
            f'[name, arguments])]')
        return dict(rows)

    def close_connections(self, reason="closed by the test"):
        """Cuts every AMQP connection, as an operator can."""
        self.evaluate(f'[rabbit_networking:close_connection(P, "{reason}") || P <- rabbit_networking:connections()], 0')

    def connections(self):
        return self.evaluate("length(rabbit_networking:connections())")

    def tail(self, lines):
        """The end of the node's own log."""
        logs = (self.directory / "log").glob(f"{self.node}.log")
        return "\n".join(line for log in logs for line in log.read_text(errors="replace").splitlines()[-lines:])

    def url(self, virtual_host, user, password):
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{virtual_host}"

    def stop(self):
        self.process.stop(signal.SIGTERM, 60)

    def kill(self):
        """The node alone; epmd stays for the next start.

        Killed within a second of declaring quorum queues, RabbitMQ 3.10 finds the last one without its log and without
        a leader when it starts again: its directory of queues was not on disk yet. That is not what is tested, and no
        worker can help it, so the directory is written first.
        """
        if self.process is not None:
            with contextlib.suppress(ErlangError, subprocess.TimeoutExpired):
                self.evaluate("[dets:sync(Table) || Table <- dets:all()], 0")
            self.process.kill()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()

    def restart(self):
        if self.process.alive():
            self.stop()
        self.start()
        self.wait_ready()

    def discard(self):
        """Ends all for good."""
        for process in (self.process, self.epmd):
            if process is not None:
                process.kill()
