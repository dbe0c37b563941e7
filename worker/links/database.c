/* database.c — opens a connection to PostgreSQL and runs statements on it one at a time, with time-outs. */
#include "links/database.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DATABASE_OPTIONS_MAX = 64 }; /* libpq 15 knows 41, and those below are among them */

/* The words for PQconnectdbParams(); values are borrowed. */
struct options {
    const char *words[DATABASE_OPTIONS_MAX + 1];
    const char *values[DATABASE_OPTIONS_MAX + 1];
    size_t count;
};

void database_finish(PGconn **connection) {
    PQfinish(*connection);
}

void database_clear(PGresult **result) {
    PQclear(*result);
}

/* Appends as much of a line of `length` bytes as fits; never half a character of UTF-8. */
static size_t append_line(char *to, size_t at, size_t size, const char *line, size_t length) {
    size_t taken = length < size - 1 - at ? length : size - 1 - at;
    if (taken < length)
        while (taken > 0 && (line[taken] & 0xc0) == 0x80)
            taken--;
    memcpy(to + at, line, taken);
    return at + taken;
}

void database_message(const char *message, char *line, size_t size) {
    assert(size > 0);
    size_t at = 0;
    for (const char *from = message ? message : ""; *from;) {
        size_t length = strcspn(from, "\r\n");
        if (length > 0 && *from != '\t') {
            if (at > 0)
                at = append_line(line, at, size, "; ", 2);
            at = append_line(line, at, size, from, length);
        }
        from += length;
        from += strspn(from, "\r\n");
    }
    line[at] = '\0';
}

static void option_put(struct options *options, const char *word, const char *value) {
    assert(options->count < DATABASE_OPTIONS_MAX);
    options->words[options->count] = word;
    options->values[options->count++] = value;
}

static bool option_is_set(const struct options *options, const char *word) {
    for (size_t i = 0; i < options->count; i++)
        if (strcmp(options->words[i], word) == 0)
            return true;
    return false;
}

static void option_default(struct options *options, const char *word, const char *value) {
    if (!option_is_set(options, word))
        option_put(options, word, value);
}

/* The SQLSTATE in an error of a connection that was refused by the server, which libpq tells only as text: with
 * PQERRORS_VERBOSE it reads "…: FATAL:  28P01: password …\nLOCATION:  …". The severity is in the server's language. */
static const char *find_sqlstate(const char *message) {
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (const char *at = strstr(message, ":  "); at; at = strstr(at + 1, ":  "))
        if (strspn(at + 3, digits) == 5 && at[8] == ':')
            return at + 3;
    return NULL;
}

/* What the server said, as one line: without the code before it and the place in its source after it. */
static void refusal_message(const char *sqlstate, char *line, size_t size) {
    char message[512];
    snprintf(message, sizeof message, "%s", sqlstate + strlen("28P01: "));
    message[strcspn(message, "\n")] = '\0';
    database_message(message, line, size);
}

/* Says why there is no connection, and whose fault it is. Result: -EACCES or -ENOTCONN. */
static int explain(PGconn *connection, char *error, size_t error_size) {
    char line[400];
    const char *sqlstate = find_sqlstate(PQerrorMessage(connection));
    if (!sqlstate) {
        database_message(PQerrorMessage(connection), line, sizeof line);
        bool wanted = PQconnectionNeedsPassword(connection);
        if (wanted)
            snprintf(error, error_size, "PostgreSQL wants a password, and DATABASE_URL has none: %s", line);
        else
            snprintf(error, error_size, "no connection to PostgreSQL: %s", line);
        return wanted ? -EACCES : -ENOTCONN;
    }
    refusal_message(sqlstate, line, sizeof line);
    if (strncmp(sqlstate, "28", 2) == 0)
        snprintf(error, error_size, "PostgreSQL refuses the user or password in DATABASE_URL: %s", line);
    else if (strncmp(sqlstate, "3D000", 5) == 0)
        snprintf(error, error_size, "PostgreSQL does not have the database in DATABASE_URL: %s", line);
    else if (strncmp(sqlstate, "42501", 5) == 0)
        snprintf(error, error_size, "the user in DATABASE_URL may not do this: %s", line);
    else {
        snprintf(error, error_size, "no connection to PostgreSQL: %s (SQLSTATE %.5s)", line, sqlstate);
        return -ENOTCONN;
    }
    return -EACCES;
}

static int connect_with(const struct options *options, PGconn **ret, char *error, size_t error_size) {
    PGconn *connection = PQconnectdbParams(options->words, options->values, 0);
    if (!connection) {
        snprintf(error, error_size, "out of memory");
        return -ENOMEM;
    }
    /* A server that answers but refuses (only its messages have two spaces after the severity) is asked once more, as
     * its SQLSTATE comes with verbose errors alone, and those can be asked for only of a connection that is there. */
    if (PQstatus(connection) != CONNECTION_OK && strstr(PQerrorMessage(connection), ":  ")) {
        (void)PQsetErrorVerbosity(connection, PQERRORS_VERBOSE);
        PQreset(connection);
        if (PQstatus(connection) == CONNECTION_OK)
            (void)PQsetErrorVerbosity(connection, PQERRORS_DEFAULT);
    }
    if (PQstatus(connection) == CONNECTION_OK) {
        *ret = connection;
        return 0;
    }
    int r = explain(connection, error, error_size);
    PQfinish(connection);
    return r;
}

static void ignore_notice(void *argument, const char *message) {
    (void)argument;
    (void)message;
}

int database_connect(const struct database_settings *settings, PGconn **ret, char *error, size_t error_size) {
    assert(settings && settings->url && ret && error && error_size > 0);
    PQconninfoOption *parsed = PQconninfoParse(settings->url, NULL);
    if (!parsed) { /* libpq's own words may quote the password */
        snprintf(error, error_size, "DATABASE_URL is not a connection string of libpq");
        return -EINVAL;
    }

    struct options options = {0};
    for (const PQconninfoOption *option = parsed; option->keyword; option++)
        if (option->val && strcmp(option->keyword, "client_encoding") != 0)
            option_put(&options, option->keyword, option->val);

    char connect_seconds[16];
    char answer_ms[16];
    snprintf(connect_seconds, sizeof connect_seconds, "%u", settings->connect_seconds);
    snprintf(answer_ms, sizeof answer_ms, "%lu", settings->answer_seconds * 1000UL);
    option_put(&options, "client_encoding", "UTF8");
    option_default(&options, "connect_timeout", connect_seconds);
    option_default(&options, "application_name", settings->name);
    option_default(&options, "keepalives_idle", "10");
    option_default(&options, "keepalives_interval", "5");
    option_default(&options, "keepalives_count", "3");
    if (settings->answer_seconds > 0)
        option_default(&options, "tcp_user_timeout", answer_ms);
    /* A standby serves nobody here, whether it is one of several hosts or what a name points to after a failover. */
    option_default(&options, "target_session_attrs", "read-write");

    int r = connect_with(&options, ret, error, error_size);
    PQconninfoFree(parsed);
    if (r >= 0)
        (void)PQsetNoticeProcessor(*ret, ignore_notice, NULL);
    return r;
}

static uint64_t now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* can't fail with this clock */
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Waits until PQgetResult() does not block. Result: 0, or a negative errno. */
static int wait_result(PGconn *connection, uint64_t deadline_ms) {
    while (PQisBusy(connection)) {
        int unsent = PQflush(connection);
        if (unsent < 0)
            return -EIO;
        uint64_t now = now_ms();
        if (now >= deadline_ms)
            return -ETIMEDOUT;
        uint64_t left = deadline_ms - now;
        struct pollfd poller = {.fd = PQsocket(connection), .events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0))};
        if (poll(&poller, 1, left > 60000 ? 60000 : (int)left) < 0 && errno != EINTR)
            return -errno;
        if ((poller.revents & (POLLIN | POLLERR | POLLHUP)) && !PQconsumeInput(connection))
            return -EIO;
    }
    return 0;
}

PGresult *database_result(PGconn *connection, uint32_t seconds) {
    uint64_t deadline = seconds > 0 ? now_ms() + seconds * 1000UL : UINT64_MAX;
    PGresult *last = NULL;
    for (;;) {
        if (wait_result(connection, deadline) < 0) {
            PQclear(last);
            return NULL;
        }
        PGresult *result = PQgetResult(connection);
        if (!result)
            return last;
        PQclear(last);
        last = result;
    }
}

PGresult *database_query(PGconn *connection, const char *sql, uint32_t seconds) {
    return PQsendQuery(connection, sql) ? database_result(connection, seconds) : NULL;
}
