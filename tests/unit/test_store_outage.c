/* test_store_outage.c — the store while PostgreSQL is away, stands still, or refuses: nothing blocks, every task ends,
 * the cause is said, and it goes on by itself. */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store-harness.h"

#define PASSWORD "top5ecret"

static struct private_postgres server;

static void admin_do(const char *sql) {
    PGconn *admin = private_postgres_connect(&server, "store");
    free(private_postgres_query(admin, sql));
    PQfinish(admin);
}

static int group_setup(void **state) {
    (void)state;
    private_postgres_make(&server);
    private_postgres_database(&server, "store");
    admin_do("CREATE ROLE worker LOGIN IN ROLE portal_worker PASSWORD '" PASSWORD "'");
    admin_do("CREATE ROLE nobody LOGIN");
    admin_do("CREATE ROLE half LOGIN IN ROLE portal_worker");
    admin_do("CREATE DATABASE empty");
    admin_do("CREATE DATABASE other_encoding TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    return 0;
}

static int group_teardown(void **state) {
    (void)state;
    private_postgres_remove(&server);
    return 0;
}

static void start(struct harness *harness, const char *database, const char *user) {
    char url[256];
    private_postgres_url(&server, database, user, url, sizeof url);
    harness_start(harness, url);
}

static struct outcome_of heartbeat(void) {
    return (struct outcome_of){.task = {.kind = STORE_HEARTBEAT, .heartbeat = {"host:1:2", "{}"}}};
}

static void assert_serves(struct harness *harness) {
    struct outcome_of beat = heartbeat();
    harness_until(harness, harness->up);
    harness_succeed(harness, &beat);
}

static void without_a_connection_tasks_are_lost_soon(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beat = heartbeat();
    harness_start(&harness, "host=/nowhere dbname=store");
    assert_int_equal(harness_do(&harness, &beat), STORE_LOST);
    harness_until(&harness, harness.downs >= 2); /* it tries again */
    assert_int_equal(harness.ups, 0);
    assert_non_null(strstr(harness.cause, "/nowhere"));
    harness_stop(&harness);
}

/* Whoever hears that a task is lost waits for the next time the store is up: that must not be the one before. */
static void what_is_lost_is_told_before_the_store_is_up_again(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beat = heartbeat();
    start(&harness, "store", "worker");
    (void)poll(NULL, 0, 500); /* the connection is there, but the loop does not know yet */
    harness_submit(&harness, &beat);
    harness_until(&harness, beat.done || harness.up);
    assert_true(beat.done);
    assert_int_equal(beat.status, STORE_LOST);
    harness_until(&harness, harness.up);
    harness_stop(&harness);
}

static void a_killed_server_costs_only_time(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beats[3] = {heartbeat(), heartbeat(), heartbeat()};
    start(&harness, "store", "worker");
    assert_serves(&harness);
    for (int round = 0; round < 3; round++) {
        private_postgres_signal(&server, SIGSTOP);
        for (size_t i = 0; i < 3; i++)
            harness_submit(&harness, &beats[i]);
        private_postgres_kill(&server);
        for (size_t i = 0; i < 3; i++) {
            harness_until(&harness, beats[i].done);
            assert_int_equal(beats[i].status, STORE_LOST);
        }
        harness_until(&harness, !harness.up);
        private_postgres_start(&server);
        uint64_t returned = harness_now_ms();
        harness_until(&harness, harness.up);
        assert_true(harness_now_ms() - returned < 6000); /* at most 1 s apart, in peace */
        assert_serves(&harness);
    }
    harness_stop(&harness);
}

static void a_server_that_stands_still_is_given_up_in_time(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beat = heartbeat();
    start(&harness, "store", "worker");
    assert_serves(&harness);
    private_postgres_signal(&server, SIGSTOP);
    uint64_t stopped = harness_now_ms();
    assert_int_equal(harness_do(&harness, &beat), STORE_LOST);
    uint64_t waited = harness_now_ms() - stopped;
    assert_in_range(waited, 1900, 6000); /* answer_seconds is 2 */
    assert_false(harness.up);
    assert_non_null(strstr(harness.cause, "did not answer"));
    private_postgres_signal(&server, SIGCONT);
    assert_serves(&harness);
    harness_stop(&harness);
}

static void a_busy_server_is_not_given_up_while_it_answers(void **state) {
    (void)state;
    enum { TASKS = 6 };
    struct harness harness;
    struct outcome_of beats[TASKS];
    start(&harness, "store", "worker");
    assert_serves(&harness);
    /* Each takes 0.6 s, all together longer than answer_seconds. */
    admin_do("CREATE FUNCTION portal.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.6); "
             "RETURN NEW; END'; CREATE TRIGGER slow BEFORE UPDATE ON portal.workers FOR EACH ROW EXECUTE FUNCTION "
             "portal.slow()");
    for (size_t i = 0; i < TASKS; i++) {
        beats[i] = heartbeat();
        harness_submit(&harness, &beats[i]);
    }
    harness_until(&harness, beats[TASKS - 1].done);
    for (size_t i = 0; i < TASKS; i++)
        assert_int_equal(beats[i].status, STORE_DONE);
    assert_int_equal(harness.downs, 0);
    admin_do("DROP TRIGGER slow ON portal.workers; DROP FUNCTION portal.slow()");
    harness_stop(&harness);
}

static void a_lock_held_by_others_fails_one_task_only(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beat = heartbeat();
    struct load_row row = {.request_id = "r", .ask = "{}", .team_id = 1};
    struct load_row *rows[] = {&row};
    struct outcome_of load = {.task = {.kind = STORE_LOAD, .load = {rows, 1}}};
    start(&harness, "store", "worker");
    assert_serves(&harness);
    PGconn *admin = private_postgres_connect(&server, "store");
    free(private_postgres_query(admin, "BEGIN; LOCK TABLE portal.workers"));
    harness_submit(&harness, &beat);
    harness_submit(&harness, &load);
    harness_until(&harness, load.done);
    assert_int_equal(beat.status, STORE_FAILED);
    assert_string_equal(beat.task.sqlstate, "55P03");
    assert_int_equal(load.status, STORE_DONE);
    assert_int_equal(harness.downs, 0);
    load_row_clear(&row);
    PQfinish(admin);
    harness_stop(&harness);
}

static void a_cut_connection_is_replaced_at_once(void **state) {
    (void)state;
    struct harness harness;
    start(&harness, "store", "worker");
    assert_serves(&harness);
    harness_until(&harness, sd_event_run(harness.event, 1100000) == 0); /* it has lived for a while */
    admin_do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'");
    harness_until(&harness, harness.downs == 1);
    assert_non_null(strstr(harness.cause, "lost the connection"));
    assert_serves(&harness);
    assert_int_equal(harness.ups, 2);
    assert_int_equal(harness.connections, 2);
    assert_int_equal(harness.downs, 1);
    harness_stop(&harness);
}

/* With a statement under way it says so itself. */
static void a_server_that_ends_a_connection_says_why(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beat = heartbeat();
    start(&harness, "store", "worker");
    assert_serves(&harness);
    PGconn *admin = private_postgres_connect(&server, "store");
    free(private_postgres_query(admin, "BEGIN; LOCK TABLE portal.workers"));
    harness_submit(&harness, &beat);
    admin_do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'");
    harness_until(&harness, beat.done);
    assert_int_equal(beat.status, STORE_LOST);
    assert_non_null(strstr(harness.cause, "terminating connection"));
    PQfinish(admin);
    assert_serves(&harness);
    harness_stop(&harness);
}

/* What can't be tried with an idle server: a loop that stands still itself does not blame the server. */
static void a_pause_of_our_own_is_not_the_servers(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beat = heartbeat();
    start(&harness, "store", "worker");
    assert_serves(&harness);
    harness_submit(&harness, &beat);
    (void)poll(NULL, 0, 2500);
    harness_until(&harness, beat.done);
    assert_int_equal(beat.status, STORE_DONE);
    assert_int_equal(harness.downs, 0);
    harness_stop(&harness);
}

/* Replaces the first line of pg_hba.conf, or puts one there, and has the server read it. */
static void set_first_rule(const char *rule) {
    char path[128];
    char text[16384];
    (void)snprintf(path, sizeof path, "%s/data/pg_hba.conf", server.directory);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t size = fread(text, 1, sizeof text, file);
    (void)fclose(file);
    assert_true(size < sizeof text);
    text[size] = '\0';
    const char *rest = strncmp(text, "local all worker", 16) == 0 ? strchr(text, '\n') + 1 : text;
    file = fopen(path, "we");
    assert_non_null(file);
    (void)fprintf(file, "%s\n%s", rule, rest);
    (void)fclose(file);
    admin_do("SELECT pg_reload_conf()");
}

static void a_wrong_password_names_the_setting_and_not_the_password(void **state) {
    (void)state;
    struct harness harness;
    char url[256];
    set_first_rule("local all worker scram-sha-256");
    (void)snprintf(url, sizeof url, "host=%s dbname=store user=worker password=wrong5ecret", server.directory);
    harness_start(&harness, url);
    harness_until(&harness, harness.downs >= 1);
    assert_non_null(strstr(harness.cause, "password in DATABASE_URL"));
    assert_null(strstr(harness.cause, "5ecret"));
    admin_do("ALTER ROLE worker PASSWORD 'wrong5ecret'"); /* made right, it goes on by itself */
    assert_serves(&harness);
    harness_stop(&harness);

    start(&harness, "store", "worker");
    harness_until(&harness, harness.downs >= 1);
    assert_non_null(strstr(harness.cause, "DATABASE_URL has none"));
    harness_stop(&harness);
    set_first_rule("local all worker trust");
}

/* Each with what is wrong and what the cause has to say. */
static void what_is_missing_is_named(void **state) {
    (void)state;
    static const struct {
        const char *database, *user, *expected;
    } cases[] = {
        {"empty", "worker", "portalctl migrate"},
        {"store", "nobody", "GRANT portal_worker TO \"nobody\""},
        {"missing", "worker", "the database in DATABASE_URL"},
        {"store", "missing", "user or password in DATABASE_URL"},
        {"other_encoding", "worker", "LATIN1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct harness harness;
        char error[512] = "";
        start(&harness, cases[i].database, cases[i].user);
        harness_until(&harness, harness.downs >= 1);
        assert_int_equal(harness.ups, 0);
        if (!strstr(harness.cause, cases[i].expected))
            fail_msg("%s is not in: %s", cases[i].expected, harness.cause);
        assert_true(store_check(&harness.settings, error, sizeof error) < 0);
        assert_string_equal(error, harness.cause);
        harness_stop(&harness);
    }
}

static void a_right_or_a_migration_that_is_missing_is_named(void **state) {
    (void)state;
    static const struct {
        const char *away, *back, *expected;
    } cases[] = {
        {"REVOKE UPDATE ON portal.tokens FROM portal_worker", "GRANT UPDATE ON portal.tokens TO portal_worker",
         "UPDATE on portal.tokens"},
        {"REVOKE SELECT ON portal.application_users FROM portal_worker",
         "GRANT SELECT ON portal.application_users TO portal_worker", "SELECT on portal.application_users"},
        {"DELETE FROM portal.migrations WHERE number = 5",
         "INSERT INTO portal.migrations VALUES (5, 'test', repeat('0', 64))",
         "at migration 4 of 5: run \"portalctl migrate\""},
        {"ALTER VIEW portal.application_teams OWNER TO half", "ALTER VIEW portal.application_teams OWNER TO postgres",
         "permission denied for table teams"},
        {"ALTER TABLE portal.sessions RENAME url TO uri", "ALTER TABLE portal.sessions RENAME uri TO url",
         "run \"portalctl migrate\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct harness harness;
        admin_do(cases[i].away);
        start(&harness, "store", "worker");
        harness_until(&harness, harness.downs >= 1);
        if (!strstr(harness.cause, cases[i].expected))
            fail_msg("%s is not in: %s", cases[i].expected, harness.cause);
        admin_do(cases[i].back);
        assert_serves(&harness);
        harness_stop(&harness);
    }
}

static void a_right_that_goes_away_denies_the_task(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beat = heartbeat();
    start(&harness, "store", "worker");
    assert_serves(&harness);
    admin_do("REVOKE INSERT ON portal.workers FROM portal_worker");
    assert_int_equal(harness_do(&harness, &beat), STORE_DENIED);
    assert_string_equal(beat.task.sqlstate, "42501");
    assert_non_null(strstr(beat.task.error, "permission denied"));
    assert_int_equal(harness.downs, 0);
    admin_do("GRANT INSERT ON portal.workers TO portal_worker");
    harness_succeed(&harness, &beat);
    harness_stop(&harness);
}

static void a_server_that_may_not_be_written_to_is_left(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beat = heartbeat();
    start(&harness, "store", "worker");
    assert_serves(&harness);
    admin_do("ALTER SYSTEM SET default_transaction_read_only = on");
    admin_do("SELECT pg_reload_conf()");
    harness_until(&harness, harness_do(&harness, &beat) == STORE_LOST);
    harness_until(&harness, strstr(harness.cause, "read-only") != NULL);
    harness_until(&harness, harness.downs >= 2);
    assert_int_equal(harness.ups, 1);
    admin_do("ALTER SYSTEM RESET default_transaction_read_only");
    admin_do("SELECT pg_reload_conf()");
    assert_serves(&harness);
    harness_stop(&harness);
}

static void among_several_hosts_one_that_serves_is_found(void **state) {
    (void)state;
    struct harness harness;
    char url[256];
    (void)snprintf(url, sizeof url, "host=/nowhere,%s dbname=store user=worker", server.directory);
    harness_start(&harness, url);
    assert_serves(&harness);
    assert_int_equal(harness.downs, 0);
    harness_stop(&harness);
}

static void a_store_can_be_freed_at_any_time(void **state) {
    (void)state;
    struct harness harness;
    struct outcome_of beat = heartbeat();
    start(&harness, "store", "worker"); /* while it connects */
    harness_submit(&harness, &beat);
    harness_stop(&harness);
    assert_false(beat.done);
    start(&harness, "store", "worker"); /* with a task under way */
    assert_serves(&harness);
    harness_submit(&harness, &beat);
    harness_stop(&harness);
    assert_false(beat.done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_connection_tasks_are_lost_soon),
        cmocka_unit_test(what_is_lost_is_told_before_the_store_is_up_again),
        cmocka_unit_test(a_killed_server_costs_only_time),
        cmocka_unit_test(a_server_that_stands_still_is_given_up_in_time),
        cmocka_unit_test(a_busy_server_is_not_given_up_while_it_answers),
        cmocka_unit_test(a_lock_held_by_others_fails_one_task_only),
        cmocka_unit_test(a_cut_connection_is_replaced_at_once),
        cmocka_unit_test(a_server_that_ends_a_connection_says_why),
        cmocka_unit_test(a_pause_of_our_own_is_not_the_servers),
        cmocka_unit_test(a_wrong_password_names_the_setting_and_not_the_password),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(a_right_or_a_migration_that_is_missing_is_named),
        cmocka_unit_test(a_right_that_goes_away_denies_the_task),
        cmocka_unit_test(a_server_that_may_not_be_written_to_is_left),
        cmocka_unit_test(among_several_hosts_one_that_serves_is_found),
        cmocka_unit_test(a_store_can_be_freed_at_any_time),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
