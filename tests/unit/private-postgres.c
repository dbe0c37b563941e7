/* private-postgres.c — starts, stops and fills a PostgreSQL for a test program. */
#include "private-postgres.h"

#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PROGRAMS "/usr/lib/postgresql/15/bin/"

enum { PATIENCE_MS = 60000, FILE_SIZE_MAX = 1024 * 1024 };

/* Becomes `postgres` where we are root, as PostgreSQL will not run as root; dies with its parent. */
static void child_become(const char *log) {
    const struct passwd *account = geteuid() == 0 ? getpwnam("postgres") : NULL;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
        _exit(125);
    if (geteuid() == 0 && (!account || initgroups(account->pw_name, account->pw_gid) < 0 ||
                           setgid(account->pw_gid) < 0 || setuid(account->pw_uid) < 0))
        _exit(126);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setsid();
    if (chdir("/") < 0)
        _exit(126);
}

static pid_t spawn(const struct private_postgres *server, char *const *argv) {
    char log[128];
    (void)snprintf(log, sizeof log, "%s.log", server->directory);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        child_become(log);
        execv(argv[0], argv);
        _exit(127);
    }
    return pid;
}

void private_postgres_make(struct private_postgres *server) {
    const char *parent = getenv("TMPDIR");
    char data[128];
    int status = 0;
    *server = (struct private_postgres){0};
    (void)snprintf(server->directory, sizeof server->directory, "%.40s/store-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(server->directory));
    const struct passwd *account = geteuid() == 0 ? getpwnam("postgres") : NULL;
    if (account)
        assert_int_equal(chown(server->directory, account->pw_uid, account->pw_gid), 0);
    (void)snprintf(data, sizeof data, "--pgdata=%s/data", server->directory);
    char *const argv[] = {PROGRAMS "initdb",  "--username=postgres", "--auth=trust", "--encoding=UTF8",
                          "--locale=C.UTF-8", "--no-sync",           data,           NULL};
    pid_t pid = spawn(server, argv);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    private_postgres_start(server);
}

void private_postgres_start(struct private_postgres *server) {
    char data[128];
    char sockets[128];
    char url[160];
    (void)snprintf(data, sizeof data, "%s/data", server->directory);
    (void)snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", server->directory);
    char *const argv[] = {
        PROGRAMS "postgres",   "-D", data, "-c", sockets, "-c", "listen_addresses=", "-c", "fsync=off", "-c",
        "shared_buffers=16MB", NULL};
    server->pid = spawn(server, argv);
    private_postgres_url(server, "postgres", "postgres", url, sizeof url);
    for (int waited = 0; PQping(url) != PQPING_OK; waited += 20) {
        assert_true(waited < PATIENCE_MS);
        /* After a SIGKILL it won't start while a process of the last one is still on its way out. */
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid)
            server->pid = spawn(server, argv);
        (void)poll(NULL, 0, 20);
    }
}

void private_postgres_signal(struct private_postgres *server, int number) {
    char path[64];
    int child = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", server->pid, server->pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    (void)kill(server->pid, SIGSTOP); /* first, so that it starts no others, and is there to be asked for its own */
    while (fscanf(file, "%d", &child) == 1) // NOLINT(cert-err34-c): the kernel's own numbers
        (void)kill(child, number);
    (void)fclose(file);
    (void)kill(server->pid, number);
}

void private_postgres_kill(struct private_postgres *server) {
    if (server->pid == 0)
        return;
    private_postgres_signal(server, SIGKILL);
    assert_int_equal(waitpid(server->pid, NULL, 0), server->pid);
    server->pid = 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

void private_postgres_remove(struct private_postgres *server) {
    char log[128];
    private_postgres_kill(server);
    (void)snprintf(log, sizeof log, "%s.log", server->directory);
    (void)nftw(server->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    (void)unlink(log);
}

void private_postgres_url(const struct private_postgres *server, const char *database, const char *user, char *url,
                          size_t size) {
    (void)snprintf(url, size, "host=%s dbname=%s user=%s", server->directory, database, user);
}

PGconn *private_postgres_connect(const struct private_postgres *server, const char *database) {
    char url[160];
    private_postgres_url(server, database, "postgres", url, sizeof url);
    PGconn *connection = PQconnectdb(url);
    if (PQstatus(connection) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(connection));
    return connection;
}

char *private_postgres_query(PGconn *connection, const char *sql) {
    PGresult *result = PQexec(connection, sql);
    char *value = NULL;
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%.200s: %s", sql, PQerrorMessage(connection));
    if (PQntuples(result) > 0 && !PQgetisnull(result, 0, 0)) {
        value = strdup(PQgetvalue(result, 0, 0));
        assert_non_null(value);
    }
    PQclear(result);
    return value;
}

void private_postgres_load(PGconn *connection, const char *path) {
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    char *text = calloc(1, FILE_SIZE_MAX);
    assert_non_null(text);
    assert_true(fread(text, 1, FILE_SIZE_MAX - 1, file) > 0);
    (void)fclose(file);
    free(private_postgres_query(connection, text));
    free(text);
}

void private_postgres_database(const struct private_postgres *server, const char *database) {
    char sql[256];
    glob_t files;
    PGconn *connection = private_postgres_connect(server, "postgres");
    (void)snprintf(sql, sizeof sql, "CREATE DATABASE %s", database);
    free(private_postgres_query(connection, sql));
    PQfinish(connection);

    connection = private_postgres_connect(server, database);
    private_postgres_load(connection, "sql/application/starter.sql");
    private_postgres_load(connection, "sql/application/demo.sql");
    assert_int_equal(glob("sql/[0-9]*.sql", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        private_postgres_load(connection, files.gl_pathv[i]);
        (void)snprintf(sql, sizeof sql, "INSERT INTO portal.migrations VALUES (%zu, 'test', repeat('0', 64))", i + 1);
        free(private_postgres_query(connection, sql));
    }
    globfree(&files);
    PQfinish(connection);
}
