/* test_answer.c — what becomes of a request, as the contract words it, stores it and reads it back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "portal/answer.h"

static const struct session session = {.id = (char *)"bps_1",
                                       .url = (char *)"https://billing.stripe.com/p/session/secret",
                                       .customer = (char *)"cus_1",
                                       .return_url = (char *)"https://app.example/dashboard",
                                       .configuration = (char *)"bpc_1",
                                       .created = 1700000000};

static void check_reply(const struct answer *answer, const char *id, uint32_t generation, const char *expected) {
    char *reply = answer_reply(answer, id, generation);
    assert_string_equal(reply, expected);
    free(reply);
}

static void a_session_is_worded_as_in_the_contract(void **state) {
    (void)state;
    struct answer answer;
    assert_int_equal(answer_session(&answer, OUTCOME_CREATED, &session, 300), 0);
    check_reply(&answer, "r1", 1,
                "{\"request_id\":\"r1\",\"generation\":1,\"outcome\":\"created\",\"status\":200,\"session\":{\"id\":"
                "\"bps_1\",\"url\":\"https://billing.stripe.com/p/session/secret\",\"customer\":\"cus_1\","
                "\"return_url\":\"https://app.example/dashboard\",\"configuration\":\"bpc_1\",\"created\":1700000000,"
                "\"expires_at\":1700000300},\"redirect\":null,\"error\":null}");
    assert_int_equal(answer_stands_seconds(&answer, 300), 240);
    answer_clear(&answer);
}

static void a_redirect_is_worded_as_in_the_contract(void **state) {
    (void)state;
    struct answer answer;
    assert_int_equal(answer_redirect(&answer, CODE_UNAUTHENTICATED, "https://app.example"), 0);
    check_reply(&answer, "r1", 2,
                "{\"request_id\":\"r1\",\"generation\":2,\"outcome\":\"redirect\",\"status\":303,\"session\":null,"
                "\"redirect\":{\"path\":\"/sign-in\",\"url\":\"https://app.example/sign-in\",\"code\":"
                "\"unauthenticated\"},\"error\":null}");
    assert_int_equal(answer_stands_seconds(&answer, 300), 300);
    answer_clear(&answer);
}

static void what_is_unknown_is_null(void **state) {
    (void)state;
    struct answer answer;
    assert_int_equal(answer_failed(&answer, CODE_INVALID_REQUEST, "fresh has to be true or false", ""), 0);
    static const char expected[] =
        "{\"request_id\":null,\"generation\":null,\"outcome\":\"failed\",\"status\":400,\"session\":null,\"redirect\":"
        "null,\"error\":{\"code\":\"invalid_request\",\"message\":\"fresh has to be true or false\",\"retryable\":false,"
        "\"stripe_request_id\":null}}";
    check_reply(&answer, NULL, 0, expected);
    check_reply(&answer, "", 0, expected);
    answer_clear(&answer);
}

/* The contract's table: code, status, path of a redirect, whether dead-lettered, stored, for how long it stands. */
static const struct {
    enum code code;
    const char *name;
    int status;
    const char *path;
    bool dead_lettered, stored, retryable;
    uint32_t stands;
} table[] = {
    {CODE_UNAUTHENTICATED, "unauthenticated", 303, "/sign-in", false, true, false, 300},
    {CODE_NO_SUBSCRIPTION, "no_subscription", 303, "/pricing", false, true, false, 300},
    {CODE_SUBSCRIPTION_INACTIVE, "subscription_inactive", 303, "/pricing", false, true, false, 300},
    {CODE_INVALID_REQUEST, "invalid_request", 400, NULL, true, false, false, 0},
    {CODE_FORBIDDEN_SENDER, "forbidden_sender", 403, NULL, true, false, false, 0},
    {CODE_REQUEST_CONFLICT, "request_conflict", 409, NULL, false, false, false, 0},
    {CODE_DEADLINE_EXCEEDED, "deadline_exceeded", 504, NULL, false, true, true, 0},
    {CODE_TEAM_NOT_FOUND, "team_not_found", 404, NULL, false, true, false, 300},
    {CODE_SUBSCRIPTION_NOT_FOUND, "subscription_not_found", 404, NULL, false, true, false, 300},
    {CODE_PRODUCT_INACTIVE, "product_inactive", 500, NULL, false, true, false, 300},
    {CODE_NO_ACTIVE_PRICES, "no_active_prices", 500, NULL, false, true, false, 300},
    {CODE_STRIPE_ERROR, "stripe_error", 500, NULL, false, true, false, 300},
    {CODE_STRIPE_UNAVAILABLE, "stripe_unavailable", 503, NULL, true, true, true, 300},
    {CODE_INTERNAL_ERROR, "internal_error", 500, NULL, true, false, true, 0},
    {CODE_POISONOUS, "poisonous", 500, NULL, true, false, false, 0},
};

static void each_code_is_as_the_contracts_table_says(void **state) {
    (void)state;
    assert_int_equal(sizeof table / sizeof *table, CODE_POISONOUS);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct answer answer;
        int r = table[i].path ? answer_redirect(&answer, table[i].code, "https://a")
                              : answer_failed(&answer, table[i].code, NULL, "req_1");
        assert_int_equal(r, 0);
        const json_t *part = json_object_get(answer.json, table[i].path ? "redirect" : "error");
        assert_string_equal(json_string_value(json_object_get(part, "code")), table[i].name);
        assert_string_equal(code_name(table[i].code), table[i].name);
        assert_int_equal(answer.status, table[i].status);
        assert_int_equal(code_is_dead_lettered(table[i].code), table[i].dead_lettered);
        assert_int_equal(code_is_stored(table[i].code), table[i].stored);
        assert_int_equal(answer_stands_seconds(&answer, 300), table[i].stands);
        if (table[i].path)
            assert_string_equal(json_string_value(json_object_get(part, "path")), table[i].path);
        else {
            assert_int_equal(json_is_true(json_object_get(part, "retryable")), table[i].retryable);
            assert_string_equal(json_string_value(json_object_get(part, "stripe_request_id")), "req_1");
            assert_true(json_string_length(json_object_get(part, "message")) > 0);
        }
        answer_clear(&answer);
    }
}

static void the_references_words_are_kept(void **state) {
    (void)state;
    static const struct {
        enum code code;
        const char *words;
    } cases[] = {{CODE_TEAM_NOT_FOUND, "Team not found"},
                 {CODE_PRODUCT_INACTIVE, "Team's product is not active in Stripe"},
                 {CODE_NO_ACTIVE_PRICES, "No active prices found for the team's product"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer answer;
        assert_int_equal(answer_failed(&answer, cases[i].code, NULL, NULL), 0);
        assert_string_equal(json_string_value(json_object_get(json_object_get(answer.json, "error"), "message")),
                            cases[i].words);
        answer_clear(&answer);
    }
}

static void what_is_stored_holds_no_url_and_is_read_back(void **state) {
    (void)state;
    struct answer answer, again;
    struct session got;
    assert_int_equal(answer_session(&answer, OUTCOME_REUSED, &session, 300), 0);
    char *stored = answer_write(&answer);
    assert_null(strstr(stored, "secret"));
    assert_int_equal(answer_read(&again, stored, session.url), 0);
    assert_int_equal(again.outcome, OUTCOME_REUSED);
    assert_int_equal(again.code, CODE_NONE);
    assert_int_equal(again.session_created, 1700000000);
    char *first = answer_reply(&answer, "r1", 1), *second = answer_reply(&again, "r1", 1);
    assert_string_equal(first, second);
    assert_int_equal(answer_get_session(&again, &got), 0);
    assert_string_equal(got.id, session.id);
    assert_string_equal(got.url, session.url);
    assert_string_equal(got.return_url, session.return_url);
    session_clear(&got);
    answer_clear(&again);

    assert_int_equal(answer_read(&again, stored, NULL), 0); /* its URL was wiped */
    assert_int_equal(answer_get_session(&again, &got), -ENOENT);
    answer_clear(&again);
    answer_clear(&answer);
    free(first);
    free(second);
    free(stored);
}

static void a_failure_is_read_back(void **state) {
    (void)state;
    struct answer answer, again;
    assert_int_equal(answer_failed(&answer, CODE_STRIPE_ERROR, "says \"no\"", "req_1"), 0);
    char *stored = answer_write(&answer);
    assert_int_equal(answer_read(&again, stored, NULL), 0);
    assert_int_equal(again.outcome, OUTCOME_FAILED);
    assert_int_equal(again.code, CODE_STRIPE_ERROR);
    assert_int_equal(again.status, 500);
    assert_int_equal(again.session_created, 0);
    answer_clear(&again);
    answer_clear(&answer);
    free(stored);
}

static void what_somebody_else_wrote_is_no_answer(void **state) {
    (void)state;
    static const char *const cases[] = {
        "",
        "null",
        "[]",
        "{}",
        "{\"outcome\":7}",
        "{\"outcome\":\"made\"}",
        "{\"outcome\":\"failed\",\"error\":{\"code\":\"nonsense\"}}",
        "{\"outcome\":\"created\"",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer answer;
        if (answer_read(&answer, cases[i], "https://x") != -EINVAL)
            fail_msg("%s is taken for an answer", cases[i]);
        assert_null(answer.json);
        assert_null(answer.url);
    }
}

static void moving_leaves_nothing_behind(void **state) {
    (void)state;
    struct answer from, to;
    assert_int_equal(answer_failed(&to, CODE_TEAM_NOT_FOUND, NULL, NULL), 0);
    assert_int_equal(answer_session(&from, OUTCOME_CREATED, &session, 300), 0);
    answer_move(&to, &from);
    assert_null(from.json);
    assert_null(from.url);
    assert_string_equal(to.url, session.url);
    answer_clear(&to);
    answer_clear(&to); /* also what is none */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_worded_as_in_the_contract),
        cmocka_unit_test(a_redirect_is_worded_as_in_the_contract),
        cmocka_unit_test(what_is_unknown_is_null),
        cmocka_unit_test(each_code_is_as_the_contracts_table_says),
        cmocka_unit_test(the_references_words_are_kept),
        cmocka_unit_test(what_is_stored_holds_no_url_and_is_read_back),
        cmocka_unit_test(a_failure_is_read_back),
        cmocka_unit_test(what_somebody_else_wrote_is_no_answer),
        cmocka_unit_test(moving_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
