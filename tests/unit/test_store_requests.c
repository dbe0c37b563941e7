/* test_store_requests.c — looking up and keeping answers in a real database, from two workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store-pair.h"

enum { MANY = 64 };

/* ---- load and save ---- */

static const char ask_one[] = "{\"team_id\":1,\"note\":\"a \\\"quoted\\\" \\\\ {comma, NULL} \xc3\xa4\"}";

static struct save_row session_row(const char *id, const char *ask) {
    return (struct save_row){.request_id = id,
                             .generation = 1,
                             .ask = ask,
                             .answer = "{\"outcome\":\"created\"}",
                             .outcome = "created",
                             .team_id = 1,
                             .session_id = "bps_1",
                             .url = "https://portal.example.com/p/session/1",
                             .customer = "cus_demo_1",
                             .configuration = "bpc_1",
                             .session_created = time(NULL),
                             .stands_seconds = 240,
                             .body = "{}",
                             .properties = "{}"};
}

static struct save_row failed_row(const char *id, const char *ask, uint32_t stands_seconds) {
    return (struct save_row){.request_id = id,
                             .generation = 1,
                             .ask = ask,
                             .answer = "{\"outcome\":\"failed\"}",
                             .outcome = "failed",
                             .code = "team_not_found",
                             .stands_seconds = stands_seconds,
                             .body = "{}",
                             .properties = "{}"};
}

/* Saves one row; what stands is in the row then. */
static void save(struct harness *harness, struct save_row *row) {
    struct save_row *rows[] = {row};
    struct outcome_of outcome = {.task = {.kind = STORE_SAVE, .save = {rows, 1}}};
    harness_succeed(harness, &outcome);
    assert_true(outcome.task.database_now > UINT64_C(1700000000) * 1000000);
}

static void load(struct harness *harness, struct load_row *row) {
    struct load_row *rows[] = {row};
    struct outcome_of outcome = {.task = {.kind = STORE_LOAD, .load = {rows, 1}}};
    harness_succeed(harness, &outcome);
    assert_true(outcome.task.database_now > UINT64_C(1700000000) * 1000000);
}

static void an_answer_is_kept_once_and_found_again(void **state) {
    (void)state;
    struct save_row row = session_row("r1", ask_one);
    save(&one, &row);
    assert_true(row.standing.written);
    assert_true(row.standing.stands);

    struct load_row same = {.request_id = "r1", .ask = ask_one, .team_id = 1};
    load(&two, &same);
    assert_true(same.stored.found);
    assert_true(same.stored.same_ask);
    assert_true(same.stored.stands);
    assert_int_equal(same.stored.generation, 1);
    assert_string_equal(same.stored.answer, row.answer);
    assert_string_equal(same.stored.url, row.url);
    assert_true(same.team.found);
    assert_int_equal(same.team.id, 1);
    assert_string_equal(same.team.customer, "cus_demo_1");
    assert_string_equal(same.team.product, "prod_demo_1");
    assert_string_equal(same.team.subscription, "sub_demo_1");
    assert_string_equal(same.team.subscription_status, "active");
    assert_null(same.reusable.answer);
    load_row_clear(&same);

    assert_int_equal(admin_number("SELECT count(*) FROM portal.sessions WHERE stands_until = session_created + "
                                  "interval '240 s' AND url_expires_at = session_created + interval '300 s' AND "
                                  "account = 'default' AND NOT livemode AND user_id IS NULL AND code IS NULL"),
                     1);
}

static void another_ask_under_the_same_id_learns_nothing(void **state) {
    (void)state;
    struct save_row first = session_row("r1", ask_one);
    save(&one, &first);

    struct load_row loaded = {.request_id = "r1", .ask = "{\"team_id\":2}", .team_id = 2, .want_reuse = true};
    load(&two, &loaded);
    assert_true(loaded.stored.found);
    assert_false(loaded.stored.same_ask);
    assert_false(loaded.stored.stands);
    assert_int_equal(loaded.stored.generation, 1);
    assert_null(loaded.stored.answer);
    assert_null(loaded.stored.url);
    assert_null(loaded.reusable.url);
    load_row_clear(&loaded);

    struct save_row other = session_row("r1", "{\"team_id\":2}");
    other.generation = 9;
    save(&two, &other);
    assert_false(other.standing.written);
    assert_false(other.standing.same_ask);
    assert_int_equal(other.standing.generation, 1);
    assert_null(other.standing.answer);
    assert_null(other.standing.url);
    assert_int_equal(admin_number("SELECT count(*) FROM portal.sessions WHERE generation = 1"), 1);
}

static void only_a_later_generation_replaces_an_answer(void **state) {
    (void)state;
    struct save_row first = session_row("r1", ask_one);
    save(&one, &first);

    struct save_row again = session_row("r1", ask_one);
    again.session_id = "bps_2";
    again.url = "https://portal.example.com/p/session/2";
    again.answer = "{\"outcome\":\"reused\"}";
    save(&two, &again);
    assert_false(again.standing.written);
    assert_true(again.standing.same_ask);
    assert_true(again.standing.stands);
    assert_int_equal(again.standing.generation, 1);
    assert_string_equal(again.standing.answer, first.answer);
    assert_string_equal(again.standing.url, first.url);
    save_row_clear(&again);

    struct save_row later = failed_row("r1", ask_one, 0);
    later.generation = 2;
    save(&two, &later);
    assert_true(later.standing.written);
    assert_false(later.standing.stands);

    /* An older one that comes late: what stands is told, and that it stands no more. */
    struct save_row late = session_row("r1", ask_one);
    save(&one, &late);
    assert_false(late.standing.written);
    assert_false(late.standing.stands);
    assert_int_equal(late.standing.generation, 2);
    assert_null(late.standing.url);
    save_row_clear(&late);
    assert_int_equal(admin_number("SELECT count(*) FROM portal.sessions WHERE generation = 2 AND outcome = 'failed' "
                                  "AND url IS NULL AND session_id IS NULL AND url_expires_at IS NULL"),
                     1);
}

static void an_answer_stands_until_its_time_or_its_url_is_gone(void **state) {
    (void)state;
    struct save_row old = session_row("old", ask_one);
    struct save_row wiped = session_row("wiped", ask_one);
    struct save_row failed = failed_row("failed", ask_one, 300);
    old.session_created -= 241;
    save(&one, &old);
    assert_true(old.standing.written);
    assert_false(old.standing.stands);
    save(&one, &wiped);
    admin_do("UPDATE portal.sessions SET url = NULL WHERE request_id = 'wiped'");
    save(&one, &failed);
    assert_true(failed.standing.stands);

    static const struct {
        const char *id;
        bool stands;
    } cases[] = {{"old", false}, {"wiped", false}, {"failed", true}};
    for (size_t i = 0; i < 3; i++) {
        struct load_row row = {.request_id = cases[i].id, .ask = ask_one, .team_id = 1};
        load(&one, &row);
        assert_true(row.stored.same_ask);
        assert_int_equal(row.stored.stands, cases[i].stands);
        assert_non_null(row.stored.answer);
        load_row_clear(&row);
    }
}

static void a_session_is_reused_only_by_its_own_shape(void **state) {
    (void)state;
    struct save_row older = session_row("older", ask_one);
    struct save_row newest = session_row("newest", ask_one);
    struct save_row fresh = session_row("fresh", ask_one);
    older.session_created -= 30;
    newest.session_created -= 10;
    newest.url = "https://portal.example.com/p/session/newest";
    fresh.fresh = true;
    save(&one, &older);
    save(&one, &newest);
    save(&one, &fresh);

    struct load_row row = {.request_id = "r", .ask = ask_one, .team_id = 1, .want_reuse = true};
    load(&one, &row);
    assert_false(row.stored.found);
    assert_string_equal(row.reusable.url, newest.url);
    assert_string_equal(row.reusable.answer, newest.answer);
    load_row_clear(&row);

    /* Nobody who does not want it, asks otherwise, or has become another customer's team gets it. */
    struct load_row unwanted = {.request_id = "r", .ask = ask_one, .team_id = 1};
    struct load_row other_ask = {.request_id = "r", .ask = "{\"team_id\":1}", .team_id = 1, .want_reuse = true};
    struct load_row other_customer = {.request_id = "r", .ask = ask_one, .team_id = 2, .want_reuse = true};
    struct load_row no_customer = {.request_id = "r", .ask = ask_one, .team_id = 3, .want_reuse = true};
    struct load_row *rows[] = {&unwanted, &other_ask, &other_customer, &no_customer};
    struct outcome_of outcome = {.task = {.kind = STORE_LOAD, .load = {rows, 4}}};
    harness_succeed(&one, &outcome);
    for (size_t i = 0; i < 4; i++) {
        assert_null(rows[i]->reusable.url);
        load_row_clear(rows[i]);
    }

    static const char *const changes[] = {
        "UPDATE portal.sessions SET livemode = true",
        "UPDATE portal.sessions SET account = 'other', livemode = false",
        "UPDATE portal.sessions SET account = 'default', session_created = session_created - interval '115 s'",
    };
    for (size_t i = 0; i < 3; i++) {
        struct load_row none = {.request_id = "r", .ask = ask_one, .team_id = 1, .want_reuse = true};
        admin_do(changes[i]);
        load(&one, &none);
        assert_null(none.reusable.url);
        load_row_clear(&none);
    }
}

static void users_have_the_teams_they_are_members_of(void **state) {
    (void)state;
    static const struct {
        int64_t user_id, team_id;
        bool user_found;
        int64_t found; /* team; 0: none */
    } cases[] = {
        {1, 0, true, 1},   /* her team */
        {2, 0, true, 2},   /* in two: the one joined first */
        {2, 1, true, 1},   /* … or the one named */
        {1, 2, true, 0},   /* not a member */
        {3, 0, false, 0},  /* deleted */
        {3, 1, false, 0},  /* … also with a team */
        {4, 0, true, 0},   /* in none */
        {99, 0, false, 0}, /* unknown */
        {0, 1, false, 1},  /* no user at all */
        {0, 99, false, 0}, /* no such team */
        {INT64_MAX, 0, false, 0}, {0, INT64_MAX, false, 0},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    struct load_row rows[CASES];
    struct load_row *pointers[CASES];
    for (size_t i = 0; i < CASES; i++) {
        rows[i] =
            (struct load_row){.request_id = "r", .ask = "{}", .user_id = cases[i].user_id, .team_id = cases[i].team_id};
        pointers[i] = &rows[i];
    }
    struct outcome_of outcome = {.task = {.kind = STORE_LOAD, .load = {pointers, CASES}}};
    harness_succeed(&one, &outcome);
    for (size_t i = 0; i < CASES; i++) {
        assert_int_equal(rows[i].user_found, cases[i].user_found);
        assert_int_equal(rows[i].team.found, cases[i].found != 0);
        assert_int_equal(rows[i].team.id, cases[i].found);
        load_row_clear(&rows[i]);
    }

    struct load_row bare = {.request_id = "r", .ask = "{}", .team_id = 3};
    load(&one, &bare);
    assert_true(bare.team.found);
    assert_null(bare.team.customer);
    assert_null(bare.team.product);
    load_row_clear(&bare);
}

static void a_row_that_can_not_be_kept_is_told_from_trouble(void **state) {
    (void)state;
    struct save_row good = session_row("good", ask_one);
    struct save_row bad = session_row("not an id", ask_one);
    struct save_row broken = failed_row("broken", "\xff", 300);
    struct save_row *rows[] = {&good, &bad};
    struct outcome_of outcome = {.task = {.kind = STORE_SAVE, .save = {rows, 2}}};
    assert_int_equal(harness_do(&one, &outcome), STORE_BAD_VALUE);
    assert_string_equal(outcome.task.sqlstate, "23514");
    assert_null(strstr(outcome.task.error, "not an id"));
    assert_false(good.standing.written);
    rows[1] = &broken;
    assert_int_equal(harness_do(&one, &outcome), STORE_BAD_VALUE);
    assert_string_equal(outcome.task.sqlstate, "22021");
    assert_int_equal(admin_number("SELECT count(*) FROM portal.sessions"), 0);
    save(&one, &good);
    assert_true(good.standing.written);
    assert_int_equal(one.downs, 0);
}

/* Tasks that are under way together do not hurt each other, and come back in order. */
static void a_failed_task_harms_no_other(void **state) {
    (void)state;
    struct save_row rows[3] = {session_row("a", ask_one), session_row("b b", ask_one), session_row("c", ask_one)};
    struct save_row *pointers[3] = {&rows[0], &rows[1], &rows[2]};
    struct outcome_of outcomes[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        outcomes[i].task = (struct store_task){.kind = STORE_SAVE, .save = {&pointers[i], 1}};
        harness_submit(&one, &outcomes[i]);
    }
    harness_until(&one, outcomes[2].done);
    assert_true(outcomes[0].done && outcomes[1].done);
    assert_int_equal(outcomes[0].status, STORE_DONE);
    assert_int_equal(outcomes[1].status, STORE_BAD_VALUE);
    assert_int_equal(outcomes[2].status, STORE_DONE);
    assert_true(rows[0].standing.written && rows[2].standing.written);
}

/* The same ids in another order from two workers: each row is written by one, and nobody waits in a ring. */
static void two_that_save_the_same_rows_do_not_lock_each_other_out(void **state) {
    (void)state;
    char ids[MANY][32];
    struct save_row mine[MANY];
    struct save_row theirs[MANY];
    struct save_row *forwards[MANY];
    struct save_row *backwards[MANY];
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < MANY; i++) {
            (void)snprintf(ids[i], sizeof ids[i], "%d.%d", round, i);
            mine[i] = session_row(ids[i], ask_one);
            theirs[i] = session_row(ids[i], ask_one);
            forwards[i] = &mine[i];
            backwards[MANY - 1 - i] = &theirs[i];
        }
        struct outcome_of a = {.task = {.kind = STORE_SAVE, .save = {forwards, MANY}}};
        struct outcome_of b = {.task = {.kind = STORE_SAVE, .save = {backwards, MANY}}};
        harness_submit(&one, &a);
        harness_submit(&two, &b);
        harness_until(&one, a.done);
        harness_until(&two, b.done);
        assert_int_equal(a.status, STORE_DONE);
        assert_int_equal(b.status, STORE_DONE);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(mine[i].standing.written + theirs[i].standing.written, 1);
            save_row_clear(&mine[i]);
            save_row_clear(&theirs[i]);
        }
    }
}

static void purging_keeps_what_is_young_or_stands(void **state) {
    (void)state;
    struct save_row old = failed_row("old", "{}", 0);
    struct save_row standing = failed_row("standing", "{}", 1000000);
    struct save_row young = failed_row("young", "{}", 0);
    save(&one, &old);
    save(&one, &standing);
    save(&one, &young);
    admin_do("UPDATE portal.sessions SET answered_at = now() - interval '10 days' WHERE request_id <> 'young'");
    admin_do("SET ROLE portal_worker");
    assert_int_equal(admin_number("SELECT portal.purge('9 days')"), 1);
    admin_do("RESET ROLE");
    assert_int_equal(admin_number("SELECT count(*) FROM portal.sessions WHERE request_id IN ('standing', 'young')"), 2);
}

/* More than a socket takes at once, both ways: what is left over goes out and comes in as there is room. */
static void large_batches_go_through_in_pieces(void **state) {
    (void)state;
    enum { ROWS = 256, LARGE = 16 * 1024 };
    static char body[LARGE + 1];
    static char ids[ROWS][16];
    static struct save_row rows[ROWS];
    static struct load_row loads[ROWS];
    struct save_row *pointers[ROWS];
    struct load_row *load_pointers[ROWS];
    memset(body, 'x', LARGE);
    for (unsigned i = 0; i < ROWS; i++) {
        (void)snprintf(ids[i], sizeof ids[i], "large.%u", i);
        rows[i] = session_row(ids[i], ask_one);
        rows[i].body = rows[i].answer = body;
        pointers[i] = &rows[i];
        loads[i] = (struct load_row){.request_id = ids[i], .ask = ask_one, .team_id = 1};
        load_pointers[i] = &loads[i];
    }
    struct outcome_of saved = {.task = {.kind = STORE_SAVE, .save = {pointers, ROWS}}};
    struct outcome_of loaded = {.task = {.kind = STORE_LOAD, .load = {load_pointers, ROWS}}};
    harness_submit(&one, &saved);
    harness_submit(&one, &loaded);
    harness_until(&one, loaded.done);
    assert_int_equal(saved.status, STORE_DONE);
    assert_int_equal(loaded.status, STORE_DONE);
    for (unsigned i = 0; i < ROWS; i++) {
        assert_true(rows[i].standing.written);
        assert_string_equal(loads[i].stored.answer, body);
        load_row_clear(&loads[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_answer_is_kept_once_and_found_again, test_setup),
        cmocka_unit_test_setup(another_ask_under_the_same_id_learns_nothing, test_setup),
        cmocka_unit_test_setup(only_a_later_generation_replaces_an_answer, test_setup),
        cmocka_unit_test_setup(an_answer_stands_until_its_time_or_its_url_is_gone, test_setup),
        cmocka_unit_test_setup(a_session_is_reused_only_by_its_own_shape, test_setup),
        cmocka_unit_test_setup(users_have_the_teams_they_are_members_of, test_setup),
        cmocka_unit_test_setup(a_row_that_can_not_be_kept_is_told_from_trouble, test_setup),
        cmocka_unit_test_setup(a_failed_task_harms_no_other, test_setup),
        cmocka_unit_test_setup(two_that_save_the_same_rows_do_not_lock_each_other_out, test_setup),
        cmocka_unit_test_setup(large_batches_go_through_in_pieces, test_setup),
        cmocka_unit_test_setup(purging_keeps_what_is_young_or_stands, test_setup),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
