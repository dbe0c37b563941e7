/* store-statements.c — which statement serves which task, and what the server's errors mean. */
#include <assert.h>
#include <string.h>

#include "store-internal.h"

const struct statement *statement_of(int number) {
    static const struct statement *const statements[STATEMENTS] = {
        [STORE_LOAD] = &statement_load,
        [STORE_SAVE] = &statement_save,
        [STORE_CONFIGURATION_FIND] = &statement_configuration_find,
        [STORE_CONFIGURATION_LEASE] = &statement_configuration_lease,
        [STORE_CONFIGURATION_KEEP] = &statement_configuration_keep,
        [STORE_CONFIGURATION_RELEASE] = &statement_configuration_release,
        [STORE_CONFIGURATION_FORGET] = &statement_configuration_forget,
        [STORE_TOKENS] = &statement_tokens,
        [STORE_SLOW_DOWN] = &statement_slow_down,
        [STORE_SUSPECT_ADD] = &statement_suspect_add,
        [STORE_SUSPECT_REMOVE] = &statement_suspect_remove,
        [STORE_HEARTBEAT] = &statement_heartbeat,
        [STATEMENT_SUSPECT_REMOVE_ALL] = &statement_suspect_remove_all,
        [STATEMENT_WIPE] = &statement_wipe,
    };
    assert(number >= 0 && number < STATEMENTS && statements[number]);
    return statements[number];
}

int statement_number(const struct store_task *task) {
    if (task->kind == STORE_SUSPECT_REMOVE && task->suspect.all)
        return STATEMENT_SUSPECT_REMOVE_ALL;
    return (int)task->kind;
}

/* Whether the code is among the entries: whole ones, or classes of two characters
 * (postgresql.org/docs/15/errcodes-appendix.html). */
static bool among(const char *sqlstate, const char *const *entries) {
    for (; *entries; entries++)
        if (strncmp(sqlstate, *entries, strlen(*entries)) == 0)
            return true;
    return false;
}

enum store_status statement_status(const char *sqlstate) {
    static const char *const lost[] = {
        "08",    /* connection_exception */
        "57P01", /* admin_shutdown: also pg_terminate_backend() */
        "57P02", /* crash_shutdown */
        "57P03", /* cannot_connect_now */
        "57P05", /* idle_session_timeout */
        "25P03", /* idle_in_transaction_session_timeout */
        "25006", /* read_only_sql_transaction: what was the primary is one no more */
        "26000", /* invalid_sql_statement_name: somebody between us and the server has dropped what was prepared */
        NULL,
    };
    static const char *const bad_value[] = {"22", "23", NULL};
    static const char *const denied[] = {
        "28",    /* invalid_authorization_specification */
        "42501", /* insufficient_privilege */
        "42P01", /* undefined_table */
        "3F000", /* invalid_schema_name */
        "42703", /* undefined_column */
        "42883", /* undefined_function */
        NULL,
    };
    if (!sqlstate || !*sqlstate || among(sqlstate, lost))
        return STORE_LOST;
    if (among(sqlstate, bad_value))
        return STORE_BAD_VALUE;
    return among(sqlstate, denied) ? STORE_DENIED : STORE_FAILED;
}
