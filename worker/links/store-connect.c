/* store-connect.c — a connection that is ready for the statements: the schema is there, the rights are, all is
 * prepared. Blocks; runs on the store's helper thread, and for --check. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "links/database.h"
#include "store-internal.h"

/* What the role needs, one row for each right, in words that has_…_privilege() takes. */
static const char rights_sql[] =
    "SELECT string_agg(missing, ', ') FROM ("
    " SELECT r || ' on ' || o AS missing FROM (VALUES"
    "  ('portal.sessions', '{SELECT,INSERT,UPDATE}'::text[]), ('portal.workers', '{SELECT,INSERT,UPDATE,DELETE}'),"
    "  ('portal.configurations', '{SELECT,INSERT,UPDATE}'), ('portal.tokens', '{SELECT,INSERT,UPDATE}'),"
    "  ('portal.suspects', '{SELECT,INSERT,DELETE}'), ('portal.application_teams', '{SELECT}'),"
    "  ('portal.application_users', '{SELECT}'), ('portal.application_members', '{SELECT}')) AS needed (o, rights),"
    "  unnest(rights) AS r WHERE NOT has_table_privilege(o, r)"
    " UNION ALL SELECT 'EXECUTE on portal.wipe_expired'"
    "  WHERE NOT has_function_privilege('portal.wipe_expired(bigint)', 'EXECUTE')) AS m";

/* Says what a statement of ours was refused for, and what helps. `result` may be NULL: no answer came. */
static int explain(PGconn *connection, const PGresult *result, char *error, size_t error_size) {
    const char *sqlstate = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *primary = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    char line[300];
    database_message(primary ? primary : PQerrorMessage(connection), line, sizeof line);

    if (!sqlstate && !*line)
        snprintf(error, error_size, "PostgreSQL does not answer");
    else if (sqlstate && strcmp(sqlstate, "42501") == 0)
        snprintf(error, error_size, "the user \"%s\" in DATABASE_URL lacks a right (GRANT portal_worker TO \"%s\"): %s",
                 PQuser(connection), PQuser(connection), line);
    else if (sqlstate && statement_status(sqlstate) == STORE_DENIED)
        snprintf(error, error_size, "the schema \"portal\" is missing or incomplete: run \"portalctl migrate\" (%s)",
                 line);
    else
        snprintf(error, error_size, "PostgreSQL: %s", *line ? line : "no answer");
    return sqlstate && statement_status(sqlstate) == STORE_DENIED ? -EACCES : -EIO;
}

/* Runs a query that yields one row. Result: 0 and the row, the caller's to clear; or a negative errno. */
static int query_row(PGconn *connection, const char *sql, uint32_t seconds, PGresult **ret, char *error,
                     size_t error_size) {
    PGresult *result = database_query(connection, sql, seconds);
    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1) {
        *ret = result;
        return 0;
    }
    int r = explain(connection, result, error, error_size);
    PQclear(result);
    return r;
}

/* Time-outs on the server's side, a little shorter than ours, so that one statement that waits for a lock fails alone
 * instead of taking the connection with it; and plans that are made once (their look-ups must not depend on how large a
 * table was then, hence the cheap random page). */
static int set_up(PGconn *connection, uint32_t seconds, char *error, size_t error_size) {
    char sql[640];
    unsigned long ms = seconds * 1000UL;
    snprintf(sql, sizeof sql,
             "SET statement_timeout = %lu; SET lock_timeout = %lu; SET idle_in_transaction_session_timeout = %lu;"
             "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
             "SET tcp_user_timeout = %lu; SET plan_cache_mode = force_generic_plan; SET random_page_cost = 0.1;"
             "SET jit = off; SET default_transaction_isolation = 'read committed'; SET search_path = pg_catalog",
             ms * 3 / 4, ms / 2, ms, ms);
    AUTOCLEAR PGresult *result = database_query(connection, sql, seconds);
    return PQresultStatus(result) == PGRES_COMMAND_OK ? 0 : explain(connection, result, error, error_size);
}

static int check_schema(PGconn *connection, uint32_t seconds, char *error, size_t error_size) {
    AUTOCLEAR PGresult *encoding = NULL;
    AUTOCLEAR PGresult *migration = NULL;
    int r = query_row(connection, "SELECT current_setting('server_encoding')", seconds, &encoding, error, error_size);
    if (r < 0)
        return r;
    if (strcmp(PQgetvalue(encoding, 0, 0), "UTF8") != 0) {
        snprintf(error, error_size, "the database in DATABASE_URL has the encoding %s; it has to be UTF8",
                 PQgetvalue(encoding, 0, 0));
        return -EINVAL;
    }
    r = query_row(connection, "SELECT coalesce(max(number), 0) FROM portal.migrations", seconds, &migration, error,
                  error_size);
    if (r < 0)
        return r;
    long applied = strtol(PQgetvalue(migration, 0, 0), NULL, 10);
    if (applied >= STORE_MIGRATION)
        return 0;
    snprintf(error, error_size, "the schema \"portal\" is at migration %ld of %d: run \"portalctl migrate\"", applied,
             STORE_MIGRATION);
    return -EACCES;
}

static int check_rights(PGconn *connection, uint32_t seconds, char *error, size_t error_size) {
    AUTOCLEAR PGresult *result = NULL;
    int r = query_row(connection, rights_sql, seconds, &result, error, error_size);
    if (r < 0 || PQgetisnull(result, 0, 0))
        return r;
    snprintf(error, error_size, "the user \"%s\" in DATABASE_URL lacks rights (GRANT portal_worker TO \"%s\"): %s",
             PQuser(connection), PQuser(connection), PQgetvalue(result, 0, 0));
    return -EACCES;
}

static int prepare(PGconn *connection, uint32_t seconds, char *error, size_t error_size) {
    for (int i = 0; i < STATEMENTS; i++) {
        const struct statement *statement = statement_of(i);
        AUTOCLEAR PGresult *result = NULL;
        if (PQsendPrepare(connection, statement->name, statement->sql, 0, NULL))
            result = database_result(connection, seconds);
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            return explain(connection, result, error, error_size);
    }
    return 0;
}

/* Looks nothing up: the views are read with the rights of their owner, which shows only when they are. */
static int try_load(PGconn *connection, const struct store_settings *settings, char *error, size_t error_size) {
    struct statement_context context = {.settings = settings};
    struct store_task task = {.kind = STORE_LOAD};
    struct parameters parameters = {0};
    AUTOCLEAR PGresult *result = NULL;

    statement_load.bind(&context, &parameters, &task);
    if (!parameters.failed && parameters_send(&parameters, connection, statement_load.name) == 0)
        result = database_result(connection, settings->answer_seconds);
    parameters_free(&parameters);
    return PQresultStatus(result) == PGRES_TUPLES_OK ? 0 : explain(connection, result, error, error_size);
}

static int connect_checked(const struct store_settings *settings, PGconn **ret, char *error, size_t error_size) {
    const struct database_settings how = {.url = settings->url,
                                          .name = settings->worker,
                                          .connect_seconds = settings->connect_seconds,
                                          .answer_seconds = settings->answer_seconds};
    uint32_t seconds = settings->answer_seconds;
    AUTOFINISH PGconn *connection = NULL;
    int r = database_connect(&how, &connection, error, error_size);
    r = r < 0 ? r : set_up(connection, seconds, error, error_size);
    r = r < 0 ? r : check_schema(connection, seconds, error, error_size);
    r = r < 0 ? r : check_rights(connection, seconds, error, error_size);
    r = r < 0 ? r : prepare(connection, seconds, error, error_size);
    r = r < 0 ? r : try_load(connection, settings, error, error_size);
    if (r < 0)
        return r;
    *ret = connection;
    connection = NULL;
    return 0;
}

PGconn *store_connect(const struct store_settings *settings, char *error, size_t error_size) {
    PGconn *connection = NULL;
    (void)connect_checked(settings, &connection, error, error_size);
    return connection;
}

int store_check(const struct store_settings *settings, char *error, size_t error_size) {
    assert(settings && error && error_size > 0);
    AUTOFINISH PGconn *connection = NULL;
    return connect_checked(settings, &connection, error, error_size);
}
