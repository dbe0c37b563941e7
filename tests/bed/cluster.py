"""Three RabbitMQ nodes that form a cluster, and a PostgreSQL primary with a synchronous standby."""

import shutil
import subprocess

from bed.bed import Bed
from bed.postgres import PROGRAMS, Postgres
from bed.process import Process, environment, free_port, wait_until
from bed.rabbitmq import ErlangError, RabbitMQ

SIZE = 3


class Node(RabbitMQ):
    """One of a cluster: all share the cookie and the port mapper, and know each other's names."""

    def __init__(self, directory, cluster):
        super().__init__(directory)
        self.cluster = cluster
        self.cookie = cluster.cookie
        (self.directory / ".erlang.cookie").unlink()

    def write(self):
        names = "\n".join(f"cluster_formation.classic_config.nodes.{n} = {node.node}"
                          for n, node in enumerate(self.cluster.nodes, 1))
        self.configuration = f"cluster_formation.peer_discovery_backend = classic_config\n{names}\n" \
                             f"cluster_partition_handling = {self.cluster.partition_handling}\n"
        self._write_files()

    def start(self):
        self.epmd, self.epmd_port = self.cluster.epmd, self.cluster.epmd_port
        super().start()

    def discard(self):
        if self.process is not None:
            self.process.kill()

    @property
    def log(self):
        return self.directory.with_suffix(".log")


class Cluster:
    """Looks like one RabbitMQ, which is its last node: senders and administrators use that one; it is not to be ended.
    Workers are to be given urls()."""

    def __init__(self, directory, partition_handling="pause_minority"):
        self.directory = directory
        self.directory.mkdir()
        self.partition_handling = partition_handling
        self.cookie = RabbitMQ(directory / "unused").cookie
        self.nodes = [Node(directory / f"node-{n}", self) for n in range(SIZE)]
        for node in self.nodes:
            node.write()
        self.epmd = None

    @property
    def keeper(self):
        return self.nodes[-1]

    def __getattr__(self, name):
        return getattr(self.keeper, name)

    def start(self):
        if self.epmd is None:
            self.epmd_port = free_port()
            self.epmd = Process(["epmd", "-port", self.epmd_port, "-address", "127.0.0.1"],
                                log=self.directory / "epmd.log", env=environment(HOME=self.directory))
        for node in self.nodes:
            if node.process is None or not node.process.alive():
                node.start()

    def wait_ready(self):
        for node in self.nodes:
            node.wait_ready()
        wait_until(lambda: self.running() == SIZE, lambda: f"{SIZE} nodes in the cluster, {self.running()} are", 60)

    def running(self):
        return self.keeper.evaluate("length(rabbit_nodes:all_running())")

    def add_virtual_host(self, name, users):
        self.keeper.add_virtual_host(name, users)
        for node in self.nodes:
            wait_until(lambda node=node: node.evaluate(f'rabbit_vhost_sup_sup:is_vhost_alive(<<"{name}">>)'),
                       "the virtual host to be everywhere")

    def tap(self, virtual_host, queue):
        for node in self.nodes[:-1]:
            node.trace(virtual_host)
        self.keeper.tap(virtual_host, queue)

    def urls(self, virtual_host, user, password):
        return ",".join(node.url(virtual_host, user, password) for node in self.nodes)

    def leader(self, virtual_host, queue):
        """The node that leads a quorum queue; None while there is none."""
        try:
            name = self.keeper.evaluate(
                f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{virtual_host}">>, queue, <<"{queue}">>)), '
                '{ok, _, {_, Node}} = ra:members(amqqueue:get_pid(Q)), atom_to_binary(Node)')
        except ErlangError:
            return None
        return next(node for node in self.nodes if node.node == name)

    def discard(self):
        for node in self.nodes:
            node.discard()
        if self.epmd is not None:
            self.epmd.kill()


class ClusterBed(Bed):
    """A bed whose RabbitMQ is a cluster."""

    def __init__(self, **cluster):
        super().__init__()
        self.rabbitmq = Cluster(self.directory / "cluster", **cluster)

    def service(self, **settings):
        service = super().service(**settings)
        service.amqp_url = self.rabbitmq.urls(service.name, "portal", self.worker_password)
        return service


class Standby(Postgres):
    """Follows a primary, from a copy of it; start it once that serves."""

    def __init__(self, directory, primary):
        super().__init__(directory)
        self.primary, self.password = primary, primary.password

    def initialise(self):
        data = self.directory / "data"
        subprocess.run([PROGRAMS / "pg_basebackup", f"--host={self.primary.directory}", f"--port={self.primary.port}",
                        "--username=postgres", f"--pgdata={data}", "--write-recovery-conf", "--checkpoint=fast",
                        "--no-sync"], check=True, env=environment(), cwd="/")
        for path in [data, *data.rglob("*")]:
            shutil.chown(path, self.user)

    @property
    def log(self):
        return self.directory.parent / "standby.log"

    def follow(self):
        """From now on the primary commits nothing that is not here too."""
        self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.execute("SELECT pg_reload_conf()")
        wait_until(self._is_synchronous, "the standby to be synchronous")

    def _is_synchronous(self):
        with self.primary.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")
            return cursor.fetchone()[0] == 1

    def promote(self):
        self.execute("SELECT pg_promote(true, 60)")

    def both(self, database, user, password):
        """A URL for a client that finds whichever is the primary."""
        return (f"postgresql://{user}:{password}@127.0.0.1:{self.primary.port},127.0.0.1:{self.port}/{database}"
                "?target_session_attrs=read-write")
