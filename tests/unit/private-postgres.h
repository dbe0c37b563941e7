/* private-postgres.h — a PostgreSQL of a test program's own, on a socket in a folder of its own. It dies with us. */
#pragma once

#include <libpq-fe.h>
#include <sys/types.h>

struct private_postgres {
    char
        directory[64]; /* also of the socket; the superuser is `postgres`, trusted but where test files say otherwise */
    pid_t pid;         /* of the postmaster */
};

/* Each fails the test (or the group's setup) where it can't. */
void private_postgres_make(struct private_postgres *server);               /* initdb and start */
void private_postgres_start(struct private_postgres *server);              /* returns once it serves */
void private_postgres_kill(struct private_postgres *server);               /* SIGKILL to all of it */
void private_postgres_signal(struct private_postgres *server, int number); /* to the postmaster and its backends */
void private_postgres_remove(struct private_postgres *server);

/* A connection string for this database and user. */
void private_postgres_url(const struct private_postgres *server, const char *database, const char *user, char *url,
                          size_t size);

/* A connection of the superuser's. Result: the caller's to PQfinish(). */
PGconn *private_postgres_connect(const struct private_postgres *server, const char *database);

/* Runs statements on it, which must not fail. Result: the last one's first value, the caller's to free; NULL for none.
 */
char *private_postgres_query(PGconn *connection, const char *sql);

/* Runs a file of SQL. */
void private_postgres_load(PGconn *connection, const char *path);

/* Makes a database with the application's tables, the demo data and the schema portal, from the files in sql/. */
void private_postgres_database(const struct private_postgres *server, const char *database);
