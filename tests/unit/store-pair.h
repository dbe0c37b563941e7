/* store-pair.h — two stores, as two workers have them, on one private server, and a connection to look behind them. For
 * test programs; each includes it once. */
#pragma once

#include <stdlib.h>

#include "store-harness.h"

static struct private_postgres server;
static struct harness one, two; /* two workers */
static PGconn *admin;

static inline int group_setup(void **state) {
    char url[256];
    (void)state;
    private_postgres_make(&server);
    private_postgres_database(&server, "store");
    admin = private_postgres_connect(&server, "store");
    free(private_postgres_query(admin, "CREATE ROLE worker LOGIN IN ROLE portal_worker"));
    private_postgres_url(&server, "store", "worker", url, sizeof url);
    harness_start(&one, url);
    harness_start(&two, url);
    harness_until(&one, one.up);
    harness_until(&two, two.up);
    return 0;
}

static inline int group_teardown(void **state) {
    (void)state;
    harness_stop(&one);
    harness_stop(&two);
    PQfinish(admin);
    private_postgres_remove(&server);
    return 0;
}

static inline int test_setup(void **state) {
    (void)state;
    free(private_postgres_query(admin, "TRUNCATE portal.sessions, portal.configurations, portal.tokens, "
                                       "portal.suspects, portal.workers"));
    return 0;
}

static inline void admin_do(const char *sql) {
    free(private_postgres_query(admin, sql));
}

static inline int64_t admin_number(const char *sql) {
    char *value = private_postgres_query(admin, sql);
    assert_non_null(value);
    int64_t number = strtoll(value, NULL, 10);
    free(value);
    return number;
}
