/* ctl-store.c — PostgreSQL for the commands. */
#include "ctl-store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_SECONDS = 10 };

PGconn *ctl_database(int *status) {
    static const char *const names[] = {"DATABASE_URL", NULL};
    AUTOSETTINGS struct settings settings = {0};
    char cause[512];
    *status = ctl_settings(&settings, names);
    if (*status)
        return NULL;
    const struct database_settings how = {
        .url = settings.store.url, .name = "portalctl", .connect_seconds = CONNECT_SECONDS};
    PGconn *connection = NULL;
    int r = database_connect(&how, &connection, cause, sizeof cause);
    if (r == -EACCES)
        *status = ctl_complain(CTL_DENIED, "Put user, password and database in DATABASE_URL right.", "%s", cause);
    else if (r < 0)
        *status = ctl_complain(
            CTL_UNAVAILABLE, "Is PostgreSQL running, and DATABASE_URL right? \"portalctl check\" looks.", "%s", cause);
    return connection;
}

static const char *const denied[] = {"42501", "28", NULL};

/* The line of a text in which a character is, from 1. */
static long line_of(const char *text, long character) {
    long line = 1;
    for (const char *c = text; *c && character > 1; c++) {
        character -= ((unsigned char)*c & 0xc0) != 0x80;
        line += *c == '\n';
    }
    return line;
}

static bool is_among(const char *sqlstate, const char *const *states) {
    for (; sqlstate && *states; states++)
        if (strncmp(sqlstate, *states, strlen(*states)) == 0)
            return true;
    return false;
}

/* What to do about it; `migrating`: it was a statement of a migration. */
static const char *next_step(const char *sqlstate, bool migrating) {
    static const char *const missing[] = {"3F000", "42P01", "42703", "42883", NULL};
    if (is_among(sqlstate, denied))
        return migrating ? "DATABASE_URL has to be that of the owner of the application's database."
                         : "The user in DATABASE_URL needs the rights of portal_worker: GRANT portal_worker TO …";
    if (!is_among(sqlstate, missing))
        return NULL;
    return migrating
               ? "The application's tables come first; for other names than the starter's the views that read them "
                 "can be changed."
               : "Is the schema there? \"portalctl migrate\" makes it.";
}

int ctl_query_complain(PGconn *connection, const PGresult *result, const char *what, const char *text) {
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
    char words[512];
    char number[24] = "";
    database_message(primary ? primary : PQerrorMessage(connection), words, sizeof words);
    if (position && text)
        (void)snprintf(number, sizeof number, "%ld:", line_of(text, strtol(position, NULL, 10)));
    int status = is_among(sqlstate, denied)              ? CTL_DENIED
                 : PQstatus(connection) != CONNECTION_OK ? CTL_UNAVAILABLE
                                                         : CTL_FAILED;
    (void)ctl_complain(status, hint ? NULL : next_step(sqlstate, text != NULL), "%s:%s %s", what, number, words);
    if (detail)
        fprintf(stderr, "  detail: %s\n", detail);
    if (hint)
        fprintf(stderr, "  hint: %s\n", hint);
    return status;
}

PGresult *ctl_query(PGconn *connection, const char *what, const char *sql, int count, const char *const *values,
                    int *status) {
    PGresult *result = PQexecParams(connection, sql, count, NULL, values, NULL, NULL, 0);
    ExecStatusType kind = PQresultStatus(result);
    if (kind == PGRES_TUPLES_OK || kind == PGRES_COMMAND_OK)
        return result;
    *status = ctl_query_complain(connection, result, what, NULL);
    PQclear(result);
    return NULL;
}

int ctl_query_each(PGconn *connection, const char *what, const char *sql, int count, const char *const *values,
                   bool (*each)(const PGresult *row, void *userdata), void *userdata) {
    if (!PQsendQueryParams(connection, sql, count, NULL, values, NULL, NULL, 0) || !PQsetSingleRowMode(connection))
        return ctl_query_complain(connection, NULL, what, NULL);
    for (;;) {
        AUTOCLEAR PGresult *result = PQgetResult(connection);
        ExecStatusType kind = PQresultStatus(result);
        if (kind == PGRES_TUPLES_OK) /* that was all */
            return 0;
        if (kind != PGRES_SINGLE_TUPLE)
            return ctl_query_complain(connection, result, what, NULL);
        if (!each(result, userdata))
            return 0;
    }
}

const char *ctl_value(const PGresult *result, int row, int column) {
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

int64_t ctl_value_number(const PGresult *result, int row, int column) {
    return PQgetisnull(result, row, column) ? 0 : strtoll(PQgetvalue(result, row, column), NULL, 10);
}
