/* test_verdict.c — what an exchange with Stripe means, by status, headers and body. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "portal/verdict.h"

#define IN_USE "{\"error\":{\"type\":\"idempotency_error\",\"code\":\"idempotency_key_in_use\"}}"
#define CONFLICT "{\"error\":{\"type\":\"idempotency_error\",\"message\":\"Keys for idempotent requests …\"}}"
#define INVALID "{\"error\":{\"type\":\"invalid_request_error\",\"code\":\"resource_missing\",\"param\":\"customer\"}}"
#define LOCKED "{\"error\":{\"type\":\"invalid_request_error\",\"code\":\"lock_timeout\"}}"
#define API "{\"error\":{\"type\":\"api_error\"}}"

static enum verdict judge(int status, const char *body, bool replayed, int should_retry, struct refusal *refusal) {
    struct stripe_exchange exchange = {.status = status,
                                       .body = (char *)body,
                                       .body_length = body ? strlen(body) : 0,
                                       .replayed = replayed,
                                       .should_retry = should_retry,
                                       .request_id = "req_1"};
    json_t *answer = NULL;
    enum verdict verdict = verdict_of(&exchange, &answer, refusal);
    assert_true((answer != NULL) == (verdict == VERDICT_DONE));
    json_decref(answer);
    assert_string_equal(refusal->request_id, "req_1");
    return verdict;
}

static void each_answer_has_its_verdict(void **state) {
    (void)state;
    static const struct {
        int status;
        const char *body;
        bool replayed;
        int should_retry;
        enum verdict verdict;
    } cases[] = {
        {200, "{}", false, -1, VERDICT_DONE},       {200, "{}", true, 0, VERDICT_DONE},
        {200, "[]", false, -1, VERDICT_RETRY},      {200, "<html>", false, -1, VERDICT_RETRY},
        {200, "<html>", true, -1, VERDICT_USED_UP}, {200, NULL, false, -1, VERDICT_RETRY},
        {302, "{}", false, -1, VERDICT_RETRY},      {100, "{}", false, -1, VERDICT_RETRY},
        {400, INVALID, false, -1, VERDICT_REFUSED}, {400, INVALID, false, 1, VERDICT_RETRY},
        {400, INVALID, false, 0, VERDICT_REFUSED},  {400, CONFLICT, false, -1, VERDICT_USED_UP},
        {400, "<html>", false, -1, VERDICT_RETRY},  {401, "{}", false, -1, VERDICT_DENIED},
        {401, "<html>", false, -1, VERDICT_DENIED}, {403, "{}", false, 1, VERDICT_DENIED},
        {403, NULL, false, -1, VERDICT_DENIED},     {409, IN_USE, false, -1, VERDICT_RETRY},
        {409, IN_USE, false, 0, VERDICT_REFUSED},   {429, API, false, -1, VERDICT_SLOW},
        {429, "too many", false, -1, VERDICT_SLOW}, {429, API, false, 0, VERDICT_REFUSED},
        {500, API, false, -1, VERDICT_RETRY},       {500, API, true, -1, VERDICT_USED_UP},
        {500, API, true, 1, VERDICT_USED_UP},       {500, API, false, 0, VERDICT_REFUSED},
        {503, "<html>", false, -1, VERDICT_RETRY},  {429, LOCKED, false, -1, VERDICT_RETRY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct refusal refusal;
        enum verdict found = judge(cases[i].status, cases[i].body, cases[i].replayed, cases[i].should_retry, &refusal);
        if (found != cases[i].verdict)
            fail_msg("case %zu: verdict %d", i, (int)found);
    }
}

static void no_answer_is_asked_for_again(void **state) {
    (void)state;
    struct stripe_exchange exchange = {.error = -ECONNREFUSED, .explanation = "Connection refused"};
    struct refusal refusal;
    json_t *answer;
    assert_int_equal(verdict_of(&exchange, &answer, &refusal), VERDICT_RETRY);
    assert_string_equal(refusal.message, "Connection refused");
}

static void a_refusal_is_told_without_keys(void **state) {
    (void)state;
    struct refusal refusal;
    char text[1024];
    (void)judge(400, INVALID, false, -1, &refusal);
    refusal_text(&refusal, text, sizeof text);
    assert_string_equal(text, "invalid_request_error resource_missing:  (param customer)");

    (void)judge(401, "{\"error\":{\"message\":\"Invalid API Key provided: sk_test_51abc, or rk_live_2 'pk_3\"}}", false,
                -1, &refusal);
    refusal_text(&refusal, text, sizeof text);
    assert_string_equal(text, "Invalid API Key provided: sk_**********, or rk_****** 'pk_*");

    (void)judge(503, NULL, false, -1, &refusal);
    refusal_text(&refusal, text, sizeof text);
    assert_string_equal(text, "HTTP status 503");
}

static int read_session(const char *json, bool https) {
    json_t *answer = json_loads(json, 0, NULL);
    struct session session;
    struct refusal refusal = {0};
    assert_non_null(answer);
    int r = verdict_session(answer, "cus_1", https, &session, &refusal);
    assert_true(refusal.misbehaved == (r == -EBADMSG));
    session_clear(&session);
    json_decref(answer);
    return r;
}

#define SESSION(id, url, customer, rest)                                                                               \
    "{\"id\":" id ",\"url\":\"" url "\",\"customer\":\"" customer "\",\"return_url\":\"https://app/\"," rest "}"
#define REST "\"configuration\":\"bpc_1\",\"created\":1700000000"

static void a_session_has_all_that_stripe_promises(void **state) {
    (void)state;
    assert_int_equal(read_session(SESSION("\"bps_1\"", "https://s/1", "cus_1", REST), true), 0);
    assert_int_equal(read_session(SESSION("\"bps_1\"", "http://s/1", "cus_1", REST), false), 0);
    static const char *const wrong[] = {
        "{}",
        SESSION("\"\"", "https://s/1", "cus_1", REST),
        SESSION("7", "https://s/1", "cus_1", REST),
        SESSION("\"bps_1\"", "", "cus_1", REST),
        SESSION("\"bps_1\"", "http://s/1", "cus_1", REST),
        SESSION("\"bps_1\"", "ftp://s/1", "cus_1", REST),
        SESSION("\"bps_1\"", "https://s/ 1", "cus_1", REST),
        SESSION("\"bps_1\"", "https://s/\x7f", "cus_1", REST),
        SESSION("\"bps_1\"", "https://s/1", "cus_2", REST),
        SESSION("\"bps_1\"", "https://s/1", "", REST),
        SESSION("\"bps_1\"", "https://s/1", "cus_1", "\"created\":1700000000"),
        SESSION("\"bps_1\"", "https://s/1", "cus_1", "\"configuration\":\"bpc_1\""),
        SESSION("\"bps_1\"", "https://s/1", "cus_1", "\"configuration\":\"bpc_1\",\"created\":0"),
        SESSION("\"bps_1\"", "https://s/1", "cus_1", "\"configuration\":\"bpc_1\",\"created\":253402300800"),
        "{\"id\":\"bps_1\",\"url\":\"https://s/1\",\"customer\":\"cus_1\"," REST "}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (read_session(wrong[i], true) != -EBADMSG)
            fail_msg("taken for a session: %s", wrong[i]);
    char json[10000], url[9001];
    (void)memset(url, 'x', sizeof url - 1);
    url[sizeof url - 1] = '\0';
    (void)snprintf(json, sizeof json, SESSION("\"bps_1\"", "https://s/%s", "cus_1", REST), url);
    assert_int_equal(read_session(json, true), -EBADMSG);
    (void)snprintf(json, sizeof json, SESSION("\"bps_%s\"", "https://s/1", "cus_1", REST), url);
    assert_int_equal(read_session(json, true), -EBADMSG);
}

static int read_list(const char *json, const char *after, bool *has_more) {
    json_t *answer = json_loads(json, 0, NULL);
    const json_t *data;
    struct refusal refusal = {0};
    assert_non_null(answer);
    int r = verdict_list(answer, after, &data, has_more, &refusal);
    json_decref(answer);
    return r;
}

static void a_list_comes_to_an_end(void **state) {
    (void)state;
    bool more;
    assert_int_equal(read_list("{\"data\":[],\"has_more\":false}", NULL, &more), 0);
    assert_false(more);
    assert_int_equal(read_list("{\"data\":[{\"id\":\"a\"}],\"has_more\":true}", NULL, &more), 0);
    assert_true(more);
    assert_int_equal(read_list("{\"data\":[{\"id\":\"b\"}],\"has_more\":true}", "a", &more), 0);
    assert_int_equal(read_list("{\"data\":[{\"id\":\"a\"}],\"has_more\":false}", "a", &more), 0);
    static const char *const wrong[] = {
        "{}",
        "{\"data\":{},\"has_more\":false}",
        "{\"data\":[]}",
        "{\"data\":[],\"has_more\":0}",
        "{\"data\":[],\"has_more\":true}",
        "{\"data\":[{}],\"has_more\":false}",
        "{\"data\":[\"a\"],\"has_more\":false}",
        "{\"data\":[{\"id\":\"\"}],\"has_more\":false}",
        "{\"data\":[{\"id\":\"b\"},{\"id\":\"a\"}],\"has_more\":true}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(read_list(wrong[i], "a", &more), -EBADMSG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_answer_has_its_verdict),    cmocka_unit_test(no_answer_is_asked_for_again),
        cmocka_unit_test(a_refusal_is_told_without_keys), cmocka_unit_test(a_session_has_all_that_stripe_promises),
        cmocka_unit_test(a_list_comes_to_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
