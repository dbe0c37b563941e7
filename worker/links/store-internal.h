/* store-internal.h — what the files of the store share: values on their way to and from PostgreSQL, and the statements.
 *
 * All values travel in PostgreSQL's binary form: nothing to quote, nothing to parse. Text is the same in both forms. */
#pragma once

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "links/store.h"

/* The newest migration in sql/ that the statements need. */
enum { STORE_MIGRATION = 5 };

/* How many expired URLs one statement wipes: few enough not to hold up what waits behind it (about 10 ms). */
enum { STORE_WIPE_ROWS = 500 };

/* ---- parameters ---- */

enum { PARAMETERS_MAX = 24 };

/* The parameters of one statement, one after the other in one buffer that is used again. Starts as {0}. */
struct parameters {
    char *data;
    size_t length, size;
    size_t begins[PARAMETERS_MAX]; /* where each begins in `data` */
    bool nulls[PARAMETERS_MAX];
    int count;
    bool failed; /* memory ran out, or a parameter is larger than the protocol allows */
};

/* What an array may hold. */
enum parameter_type { PARAMETER_BOOL, PARAMETER_INT8, PARAMETER_TEXT };

void parameters_reset(struct parameters *parameters); /* keeps the buffer */
void parameters_free(struct parameters *parameters);

/* Each adds one parameter; NULL becomes SQL's NULL. */
void parameter_bool(struct parameters *parameters, bool value);
void parameter_int8(struct parameters *parameters, int64_t value);
void parameter_text(struct parameters *parameters, const char *value);
void parameter_bytes(struct parameters *parameters, const void *value, size_t length);

/* Begins an array parameter; exactly `count` elements of its type follow. */
void parameter_array(struct parameters *parameters, enum parameter_type type, size_t count);
void element_bool(struct parameters *parameters, bool value);
void element_int8(struct parameters *parameters, int64_t value);
void element_text(struct parameters *parameters, const char *value);

/* Sends them (none failed) with a prepared statement, answers wanted in binary. Result: 0 or -EIO: the connection is of
 * no more use. */
int parameters_send(const struct parameters *parameters, PGconn *connection, const char *statement);

/* ---- results ---- */

bool result_bool(const PGresult *result, int row, int column);            /* false for NULL */
int64_t result_int8(const PGresult *result, int row, int column);         /* 0 for NULL */
int result_text(const PGresult *result, int row, int column, char **ret); /* a copy, NULL for NULL; 0 or -ENOMEM */

/* ---- statements ---- */

/* What the statements need to know beside the task. */
struct statement_context {
    const struct store_settings *settings;
    uint64_t batch; /* raised for each, so that no two that were ever written are marked alike */
    char mark[160]; /* of the batch being bound */
};

struct statement {
    const char *name;
    const char *sql;
    int columns;
    /* Adds the task's parameters. */
    void (*bind)(struct statement_context *context, struct parameters *parameters, const struct store_task *task);
    /* Puts what came back into the task. Result: 0, -ENOMEM, or -EPROTO for an answer that can't be. On failure the
     * task holds nothing that has to be freed. NULL: nothing comes back. */
    int (*read)(struct store_task *task, const PGresult *result);
};

/* The kinds of a task, and two more statements. */
enum {
    STATEMENT_SUSPECT_REMOVE_ALL = STORE_HEARTBEAT + 1,
    STATEMENT_WIPE, /* the store's own, after a heartbeat that found much to wipe */
    STATEMENTS,
};

const struct statement *statement_of(int number);
int statement_number(const struct store_task *task);

extern const struct statement statement_load, statement_save;
extern const struct statement statement_configuration_find, statement_configuration_lease, statement_configuration_keep,
    statement_configuration_release, statement_configuration_forget;
extern const struct statement statement_tokens, statement_slow_down;
extern const struct statement statement_suspect_add, statement_suspect_remove, statement_suspect_remove_all;
extern const struct statement statement_heartbeat, statement_wipe;

/* Whether a heartbeat or a wipe found as many expired URLs as it may take at once. */
bool statement_wiped_full(const PGresult *result);

/* What an SQLSTATE means for a task. STORE_LOST: the connection is of no more use; so it is with NULL or "", as libpq's
 * own errors have none. */
enum store_status statement_status(const char *sqlstate);

/* ---- connecting ---- */

/* Connects, checks schema and rights, and prepares all statements; blocks, with time-outs. Result: a connection that is
 * not in pipeline mode yet, the caller's; NULL with the cause in `error`. */
PGconn *store_connect(const struct store_settings *settings, char *error, size_t error_size);
