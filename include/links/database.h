/* database.h — opening a connection to PostgreSQL, blocking but never for ever: for the store's helper thread, for
 * --check and for portalctl. */
#pragma once

#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>

struct database_settings {
    const char *url;          /* what libpq takes: postgresql://… or key=value words */
    const char *name;         /* application_name, for pg_stat_activity */
    uint32_t connect_seconds; /* for each host, where the URL sets no connect_timeout; libpq makes it 2 at least */
    uint32_t answer_seconds;  /* how long the other end may be silent before TCP gives it up; 0: as the system has it */
};

/* Connects to the first host that takes us and can be written to. Result: 0 and `*ret` is the caller's to PQfinish();
 * -EACCES: the server refuses the user, the password or the database; -ENOTCONN; -EINVAL: the URL is none; -ENOMEM.
 * The cause is in `error`, for a person: it names DATABASE_URL where that is wrong, and never the password. */
int database_connect(const struct database_settings *settings, PGconn **ret, char *error, size_t error_size);

/* Runs one or more statements and waits for the last one's result, at most `seconds` (0: for ever). Result: the
 * caller's to PQclear(), never a good one where a statement failed; NULL where the answer did not come. */
PGresult *database_query(PGconn *connection, const char *sql, uint32_t seconds);

/* Waits likewise for what was sent before. */
PGresult *database_result(PGconn *connection, uint32_t seconds);

/* Copies a message of libpq or of the server as one line, cut to size; without the advice that libpq puts into lines of
 * its own, with a tab before. */
void database_message(const char *message, char *line, size_t size);

/* For __attribute__((cleanup)). */
void database_finish(PGconn **connection);
void database_clear(PGresult **result);
#define AUTOFINISH __attribute__((cleanup(database_finish)))
#define AUTOCLEAR __attribute__((cleanup(database_clear)))
