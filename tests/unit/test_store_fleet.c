/* test_store_fleet.c — what the workers of a fleet share through a real database. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store-pair.h"

/* ---- configurations ---- */

static struct outcome_of configuration_task(enum store_kind kind, const char *holder) {
    return (struct outcome_of){
        .task = {.kind = kind, .configuration = {.key = "default:test", .holder = holder, .lease_seconds = 30}}};
}

static void a_configuration_is_leased_by_one_at_a_time(void **state) {
    (void)state;
    struct outcome_of find = configuration_task(STORE_CONFIGURATION_FIND, NULL);
    harness_succeed(&one, &find);
    assert_null(find.task.configuration.id);

    struct outcome_of a = configuration_task(STORE_CONFIGURATION_LEASE, "a");
    struct outcome_of b = configuration_task(STORE_CONFIGURATION_LEASE, "b");
    harness_succeed(&one, &a);
    assert_true(a.task.configuration.leased);
    assert_null(a.task.configuration.id);
    harness_succeed(&two, &b);
    assert_false(b.task.configuration.leased);
    assert_in_range(b.task.configuration.retry_ms, 20000, 30000);
    admin_do("UPDATE portal.configurations SET leased_until = clock_timestamp() + interval '5 s'");
    harness_succeed(&one, &a); /* one's own is granted again, from now */
    assert_true(a.task.configuration.leased);
    harness_succeed(&two, &b);
    assert_false(b.task.configuration.leased);
    assert_in_range(b.task.configuration.retry_ms, 20000, 30000);

    /* Who does not hold it can neither keep nor release. */
    struct outcome_of keep = configuration_task(STORE_CONFIGURATION_KEEP, "b");
    keep.task.configuration.id = (char[]){"bpc_b"};
    harness_succeed(&two, &keep);
    assert_false(keep.task.configuration.leased);
    struct outcome_of release = configuration_task(STORE_CONFIGURATION_RELEASE, "b");
    harness_succeed(&two, &release);
    harness_succeed(&two, &b);
    assert_false(b.task.configuration.leased);

    release.task.configuration.holder = "a";
    harness_succeed(&one, &release);
    harness_succeed(&two, &b);
    assert_true(b.task.configuration.leased);

    admin_do("UPDATE portal.configurations SET leased_until = clock_timestamp() - interval '1 ms'");
    harness_succeed(&one, &a); /* it ran out */
    assert_true(a.task.configuration.leased);
    assert_null(a.task.configuration.id);
}

static void a_configuration_is_kept_found_and_forgotten(void **state) {
    (void)state;
    struct outcome_of lease = configuration_task(STORE_CONFIGURATION_LEASE, "a");
    harness_succeed(&one, &lease);
    struct outcome_of keep = configuration_task(STORE_CONFIGURATION_KEEP, "a");
    keep.task.configuration.id = (char[]){"bpc_1"};
    keep.task.configuration.product = (char[]){"prod_1"};
    keep.task.configuration.fingerprint = (char[]){"f"};
    keep.task.configuration.managed = true;
    harness_succeed(&one, &keep);
    assert_true(keep.task.configuration.leased);

    admin_do("UPDATE portal.configurations SET checked_at = checked_at - interval '100 s'");
    struct outcome_of find = configuration_task(STORE_CONFIGURATION_FIND, NULL);
    harness_succeed(&two, &find);
    assert_string_equal(find.task.configuration.id, "bpc_1");
    assert_string_equal(find.task.configuration.product, "prod_1");
    assert_string_equal(find.task.configuration.fingerprint, "f");
    assert_true(find.task.configuration.managed);
    assert_int_equal(find.task.configuration.forgotten, 0);
    assert_in_range(find.task.configuration.checked_ago, 100, 110);
    configuration_row_clear(&find.task.configuration);

    struct outcome_of other = configuration_task(STORE_CONFIGURATION_LEASE, "b");
    harness_succeed(&two, &other); /* keeping freed it */
    assert_true(other.task.configuration.leased);
    assert_string_equal(other.task.configuration.id, "bpc_1");
    configuration_row_clear(&other.task.configuration);

    struct outcome_of forget = configuration_task(STORE_CONFIGURATION_FORGET, NULL);
    forget.task.configuration.id = (char[]){"bpc_other"};
    harness_succeed(&one, &forget);
    harness_succeed(&two, &find);
    assert_string_equal(find.task.configuration.id, "bpc_1");
    configuration_row_clear(&find.task.configuration);

    forget.task.configuration.id = (char[]){"bpc_1"};
    harness_succeed(&one, &forget);
    harness_succeed(&one, &forget); /* only once for each */
    harness_succeed(&two, &find);
    assert_null(find.task.configuration.id);
    assert_false(find.task.configuration.managed);
    assert_int_equal(find.task.configuration.forgotten, 1);
    assert_int_equal(find.task.configuration.checked_ago, 0);

    harness_succeed(&one, &keep); /* by one who has not heard that it was forgotten */
    assert_false(keep.task.configuration.leased);
    harness_succeed(&two, &find);
    assert_null(find.task.configuration.id);
}

/* ---- send times ---- */

static struct outcome_of tokens_task(uint32_t wanted, uint64_t interval_us) {
    return (struct outcome_of){.task = {
                                   .kind = STORE_TOKENS,
                                   .tokens = {.endpoint = "sessions", .wanted = wanted, .interval_us = interval_us},
                               }};
}

static void send_times_never_overlap(void **state) {
    (void)state;
    struct outcome_of first = tokens_task(10, 100000);
    struct outcome_of second = tokens_task(5, 100000);
    struct outcome_of elsewhere = tokens_task(5, 100000);
    elsewhere.task.tokens.endpoint = "prices";
    harness_succeed(&one, &first);
    assert_true(first.task.tokens.first_us < 100000);
    assert_int_equal(first.task.tokens.spacing_us, 100000);
    harness_succeed(&two, &second);
    assert_in_range(second.task.tokens.first_us, 700000, 1000000); /* after the ten of the other */
    harness_succeed(&two, &elsewhere);
    assert_true(elsewhere.task.tokens.first_us < 100000);

    /* What was not used is not saved up. */
    admin_do("UPDATE portal.tokens SET next_at = next_at - interval '1 hour'");
    harness_succeed(&two, &second);
    assert_true(second.task.tokens.first_us < 100000);
    harness_succeed(&one, &first);
    assert_in_range(first.task.tokens.first_us, 300000, 500000);
}

static void a_slow_down_holds_for_all(void **state) {
    (void)state;
    struct outcome_of slow = {
        .task = {.kind = STORE_SLOW_DOWN, .tokens = {.endpoint = "sessions", .wait_us = 2000000, .slow_us = 10000000}}};
    struct outcome_of tokens = tokens_task(4, 50000);
    harness_succeed(&one, &slow); /* also where there is no row yet */
    harness_succeed(&two, &tokens);
    assert_in_range(tokens.task.tokens.first_us, 1500000, 2000000);
    assert_int_equal(tokens.task.tokens.spacing_us, 100000);

    slow.task.tokens.wait_us = 0; /* a shorter one does not shorten it */
    slow.task.tokens.slow_us = 0;
    harness_succeed(&one, &slow);
    harness_succeed(&two, &tokens);
    assert_in_range(tokens.task.tokens.first_us, 1700000, 2400000);
    assert_int_equal(tokens.task.tokens.spacing_us, 100000);

    admin_do("UPDATE portal.tokens SET slowed_until = clock_timestamp()");
    harness_succeed(&two, &tokens);
    assert_int_equal(tokens.task.tokens.spacing_us, 50000);
}

/* ---- suspects and signs of life ---- */

static struct outcome_of suspect_task(enum store_kind kind, const char *worker, const char *message_id,
                                      const char *body) {
    return (struct outcome_of){.task = {.kind = kind,
                                        .suspect = {.message_id = message_id,
                                                    .body = body,
                                                    .body_length = body ? strlen(body) : 0,
                                                    .worker = worker}}};
}

static void tries_are_counted_by_message(void **state) {
    (void)state;
    struct outcome_of add = suspect_task(STORE_SUSPECT_ADD, "a", "ab", "c");
    struct outcome_of other = suspect_task(STORE_SUSPECT_ADD, "b", "ab", "c");
    struct outcome_of alike = suspect_task(STORE_SUSPECT_ADD, "a", "a", "bc");
    struct outcome_of bare = suspect_task(STORE_SUSPECT_ADD, "a", NULL, NULL);
    harness_succeed(&one, &add);
    assert_int_equal(add.task.suspect.tries, 1);
    harness_succeed(&two, &other);
    assert_int_equal(other.task.suspect.tries, 2);
    harness_succeed(&one, &alike);
    assert_int_equal(alike.task.suspect.tries, 1);
    harness_succeed(&one, &bare);
    assert_int_equal(bare.task.suspect.tries, 1);

    struct outcome_of remove = suspect_task(STORE_SUSPECT_REMOVE, "a", "ab", "c");
    harness_succeed(&one, &remove);
    harness_succeed(&one, &add);
    assert_int_equal(add.task.suspect.tries, 2);
    remove.task.suspect.all = true;
    harness_succeed(&one, &remove);
    assert_int_equal(admin_number("SELECT count(*) FROM portal.suspects"), 2);
    harness_succeed(&one, &add);
    assert_int_equal(add.task.suspect.tries, 1);
}

static void a_try_whose_answer_was_lost_is_no_crash(void **state) {
    (void)state;
    struct outcome_of add = suspect_task(STORE_SUSPECT_ADD, "a", "ab", "c");
    harness_succeed(&one, &add);
    harness_succeed(&two, &add); /* again, over another connection */
    assert_int_equal(add.task.suspect.tries, 1);
    struct outcome_of remove = suspect_task(STORE_SUSPECT_REMOVE, "a", "ab", "c");
    harness_succeed(&one, &remove);
    assert_int_equal(admin_number("SELECT count(*) FROM portal.suspects"), 0);
}

static void a_heartbeat_shows_the_worker_and_clears_away(void **state) {
    (void)state;
    admin_do(
        "INSERT INTO portal.workers VALUES ('gone', '{}', now() - interval '3 days', now() - interval '25 hours'), "
        "('near', '{}', now() - interval '3 days', now() - interval '23 hours')");
    struct outcome_of beat = {.task = {.kind = STORE_HEARTBEAT, .heartbeat = {"host:1:2", "{\"in_hand\": 3}"}}};
    harness_succeed(&one, &beat);
    beat.task.heartbeat.state = "{\"in_hand\": 4}";
    harness_succeed(&one, &beat);
    assert_int_equal(admin_number("SELECT count(*) FROM portal.workers"), 2);
    assert_int_equal(admin_number("SELECT state->'in_hand' FROM portal.workers WHERE name = 'host:1:2' "
                                  "AND seen_at > started_at"),
                     4);
    beat.task.heartbeat.state = "not JSON";
    assert_int_equal(harness_do(&one, &beat), STORE_BAD_VALUE);
}

static void expired_urls_are_wiped_however_many(void **state) {
    (void)state;
    admin_do("INSERT INTO portal.sessions (request_id, generation, ask, answer, outcome, fresh, session_id, url, "
             "customer, account, livemode, session_created, answered_at, stands_until, url_expires_at, body, "
             "properties, written) SELECT 'r' || i, 1, '{}', '{}', 'created', false, 'bps', 'https://x', 'cus', "
             "'default', false, now() - interval '400 s', now(), now(), now() - interval '100 s', '{}', '{}', '' "
             "FROM generate_series(1, 3500) i");
    admin_do(
        "INSERT INTO portal.sessions SELECT 'fresh', generation, ask, answer, outcome, code, team_id, user_id, fresh, "
        "session_id, url, customer, configuration, account, livemode, now(), now(), now(), now() + "
        "interval '300 s', body, properties, written FROM portal.sessions LIMIT 1");
    struct outcome_of beat = {.task = {.kind = STORE_HEARTBEAT, .heartbeat = {"host:1:2", "{}"}}};
    harness_succeed(&one, &beat);
    harness_until(&one, admin_number("SELECT count(url) FROM portal.sessions") == 1);
    assert_int_equal(admin_number("SELECT count(url) FROM portal.sessions WHERE request_id = 'fresh'"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_configuration_is_leased_by_one_at_a_time, test_setup),
        cmocka_unit_test_setup(a_configuration_is_kept_found_and_forgotten, test_setup),
        cmocka_unit_test_setup(send_times_never_overlap, test_setup),
        cmocka_unit_test_setup(a_slow_down_holds_for_all, test_setup),
        cmocka_unit_test_setup(tries_are_counted_by_message, test_setup),
        cmocka_unit_test_setup(a_try_whose_answer_was_lost_is_no_crash, test_setup),
        cmocka_unit_test_setup(a_heartbeat_shows_the_worker_and_clears_away, test_setup),
        cmocka_unit_test_setup(expired_urls_are_wiped_however_many, test_setup),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
