/* test_request.c — a message read as a request: what is taken, what is refused and in which words. What is wrong with
 * each field at its worst is tried on the whole worker, in tests/system/test_bad_fields.py. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "portal/request.h"

#define NOW (UINT64_C(1700000000) * 1000000)

static char *const patterns[] = {"portal.replies", "portal.replies.*", "amq.gen-*", NULL};
static char *const senders[] = {"billing", "portalctl", NULL};

static struct request_rules rules = {.reply_queues = patterns, .deadline_seconds = 900};

/* Reads `delivery` with this body; the request is to be cleared. */
static int read_with(struct delivery delivery, const char *body, struct request *request,
                     struct request_problem *problem) {
    delivery.body = body;
    delivery.body_length = delivery.body_size = strlen(body);
    return request_read(&delivery, &rules, NOW, request, problem);
}

static struct request taken_with(struct delivery delivery, const char *body) {
    struct request request;
    struct request_problem problem;
    if (read_with(delivery, body, &request, &problem) != 0)
        fail_msg("%s is refused: %s", body, problem.message);
    return request;
}

static void refused_with(struct delivery delivery, const char *body, const char *code, const char *named) {
    struct request request;
    struct request_problem problem;
    if (read_with(delivery, body, &request, &problem) != -EINVAL)
        fail_msg("%s is taken", body);
    assert_string_equal(problem.code, code);
    if (!strstr(problem.message, named))
        fail_msg("%s: \"%s\" does not name %s", body, problem.message, named);
    request_clear(&request);
}

static void check_ask(const char *body, const char *ask) {
    struct request request = taken_with((struct delivery){0}, body);
    assert_string_equal(request.ask, ask);
    request_clear(&request);
}

/* ---- what is taken ---- */

static void the_least_is_an_id_and_an_asker(void **state) {
    (void)state;
    struct request request = taken_with((struct delivery){0}, "{\"request_id\":\"r\",\"team_id\":1}");
    assert_string_equal(request.request_id, "r");
    assert_int_equal(request.team_id, 1);
    assert_int_equal(request.user_id, 0);
    assert_string_equal(request.return_path, "/dashboard");
    assert_null(request.locale);
    assert_null(request.configuration);
    assert_null(request.flow);
    assert_false(request.fresh);
    assert_int_equal(request.deadline, NOW + UINT64_C(900000000));
    assert_int_equal(request.generation, 1);
    assert_string_equal(request.ask, "{\"return_path\":\"/dashboard\",\"team_id\":1}");
    request_clear(&request);
}

static void the_ask_is_the_same_however_it_is_written(void **state) {
    (void)state;
    static const char ask[] = "{\"configuration\":\"bpc_1\",\"flow\":{\"subscription\":\"sub_1\",\"type\":"
                              "\"subscription_cancel\"},\"locale\":\"de\",\"return_path\":\"/a\",\"team_id\":1,"
                              "\"user_id\":2}";
    check_ask("{\"request_id\":\"r\",\"team_id\":1,\"user_id\":2,\"return_path\":\"/a\",\"locale\":\"de\","
              "\"configuration\":\"bpc_1\",\"flow\":{\"type\":\"subscription_cancel\",\"subscription\":\"sub_1\"}}",
              ask);
    check_ask("{ \"flow\" : {\"subscription\":\"sub_1\",\"ignored\":[1],\"type\":\"subscription_cancel\"},"
              "\"configuration\":\"bpc_1\",\"fresh\":true,\"new_field\":{},\"locale\":\"de\",\"return_path\":\"\\/a\","
              "\"user_id\":2,\"deadline\":\"2030-01-01T00:00:00Z\",\"team_id\":1,\"request_id\":\"other\"}",
              ask);
}

static void a_default_is_the_same_ask_as_its_value(void **state) {
    (void)state;
    static const char ask[] = "{\"return_path\":\"/dashboard\",\"user_id\":7}";
    check_ask("{\"request_id\":\"r\",\"user_id\":7}", ask);
    check_ask("{\"request_id\":\"r\",\"user_id\":7,\"return_path\":\"/dashboard\"}", ask);
    check_ask("{\"request_id\":\"r\",\"user_id\":7,\"team_id\":null,\"return_path\":null,\"locale\":null,\"flow\":null,"
              "\"configuration\":null,\"fresh\":null,\"deadline\":null}",
              ask);
}

static void each_flow_is_taken_with_all_it_may_have(void **state) {
    (void)state;
    static const char *const flows[] = {
        "{\"type\":\"payment_method_update\"}",
        "{\"after_completion\":{\"type\":\"portal_homepage\"},\"type\":\"payment_method_update\"}",
        "{\"after_completion\":{\"return_path\":\"/done\",\"type\":\"redirect\"},\"retention\":{\"coupon\":\"STAY\","
        "\"type\":\"coupon_offer\"},\"subscription\":\"sub_1\",\"type\":\"subscription_cancel\"}",
        "{\"after_completion\":{\"custom_message\":\"Thanks\",\"type\":\"hosted_confirmation\"},\"subscription\":"
        "\"sub_1\",\"type\":\"subscription_update\"}",
        "{\"discounts\":[{\"promotion_code\":\"promo_1\"}],\"items\":[{\"id\":\"si_1\",\"price\":\"price_1\","
        "\"quantity\":0}],\"subscription\":\"sub_1\",\"type\":\"subscription_update_confirm\"}",
        "{\"discounts\":[{\"coupon\":\"A\"}],\"items\":[{\"id\":\"si_1\"}],\"subscription\":\"sub_1\",\"type\":"
        "\"subscription_update_confirm\"}",
    };
    for (size_t i = 0; i < sizeof flows / sizeof *flows; i++) {
        char body[600];
        (void)snprintf(body, sizeof body, "{\"request_id\":\"r\",\"team_id\":1,\"flow\":%s}", flows[i]);
        struct request request = taken_with((struct delivery){0}, body);
        char *text = json_dumps(request.flow, JSON_COMPACT | JSON_SORT_KEYS);
        assert_string_equal(text, flows[i]);
        free(text);
        request_clear(&request);
    }
}

static void values_at_their_limits_are_taken(void **state) {
    (void)state;
    char id[REQUEST_ID_MAX + 1], path[RETURN_PATH_MAX + 1], body[4096];
    memset(id, 'x', sizeof id - 1);
    memset(path, 'a', sizeof path - 1);
    path[0] = '/';
    id[sizeof id - 1] = path[sizeof path - 1] = '\0';
    (void)snprintf(body, sizeof body, "{\"request_id\":\"%s\",\"team_id\":9223372036854775807,\"return_path\":\"%s\"}",
                   id, path);
    struct request request = taken_with((struct delivery){.generation = "1000000000"}, body);
    assert_string_equal(request.request_id, id);
    assert_int_equal(request.team_id, INT64_MAX);
    assert_string_equal(request.return_path, path);
    assert_int_equal(request.generation, GENERATION_MAX);
    request_clear(&request);
}

static void a_number_that_no_field_of_ours_has_may_be_huge(void **state) {
    (void)state;
    static const char *const huge[] = {"123456789012345678901234567890",
                                       "9223372036854775808",
                                       "-9223372036854775809",
                                       "1e309",
                                       "-1E+400",
                                       "[1.5e999, 1e309]",
                                       "\"\\\"1e999\", \"y\": 1e999"};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        char body[200];
        (void)snprintf(body, sizeof body,
                       "{\"x\": %s, \"request_id\":\"r-123456789012345678901234567890\","
                       "\"team_id\":9223372036854775807}",
                       huge[i]);
        struct request request = taken_with((struct delivery){0}, body);
        assert_int_equal(request.team_id, INT64_MAX); /* which no double could be */
        assert_string_equal(request.request_id, "r-123456789012345678901234567890");
        request_clear(&request);
    }
}

static void a_number_of_ours_is_an_integer_whatever_else_is_huge(void **state) {
    (void)state;
    static const char *const wrong[] = {"123456789012345678901234567890", "1e999", "1.0", "0.0",
                                        "-9223372036854775809"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char body[200];
        (void)snprintf(body, sizeof body, "{\"request_id\":\"r\",\"team_id\":%s,\"x\":1e999}", wrong[i]);
        refused_with((struct delivery){0}, body, "invalid_request", "team_id");
        (void)snprintf(
            body, sizeof body,
            "{\"request_id\":\"r\",\"team_id\":1,\"x\":1e999,\"flow\":{\"type\":\"subscription_update_confirm\","
            "\"subscription\":\"sub_1\",\"items\":[{\"id\":\"si_1\",\"quantity\":%s}]}}",
            wrong[i]);
        refused_with((struct delivery){0}, body, "invalid_request", "flow.items[0].quantity");
    }
    static const char ended[] = "{\"request_id\":\"r\",\"team_id\":1,\"x\":1e999}\0";
    struct delivery nul = {.body = ended, .body_length = sizeof ended - 1};
    struct request request;
    struct request_problem problem;
    assert_int_equal(request_read(&nul, &rules, NOW, &request, &problem), -EINVAL); /* what follows a NUL counts too */
    request_clear(&request);
    refused_with((struct delivery){0}, "{\"request_id\":\"r\",\"x\":1e999,\"y\":\"\\", "invalid_request", "JSON");
}

/* ---- ids ---- */

static void the_message_id_serves_where_the_body_has_none(void **state) {
    (void)state;
    const struct delivery delivery = {.message_id = "m-1"};
    struct request request = taken_with(delivery, "{\"team_id\":1}");
    assert_string_equal(request.request_id, "m-1");
    request_clear(&request);
    request = taken_with(delivery, "{\"team_id\":1,\"request_id\":\"r\"}");
    assert_string_equal(request.request_id, "r");
    request_clear(&request);
    refused_with((struct delivery){0}, "{\"team_id\":1}", "invalid_request", "request_id is missing");
    refused_with((struct delivery){.message_id = "not an id"}, "{\"team_id\":1}", "invalid_request", "message_id");
}

static void an_id_that_can_be_told_is_told_with_the_problem(void **state) {
    (void)state;
    static const struct {
        const char *message_id, *body, *id;
    } cases[] = {
        {"m1", "{", "m1"},
        {"m1", "[]", "m1"},
        {NULL, "{", ""},
        {"m1", "{\"request_id\":\"r\",\"fresh\":1,\"team_id\":1}", "r"},
        {"m1", "{\"request_id\":\"a b\",\"team_id\":1}", ""},
        {"a b", "nonsense", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct request request;
        struct request_problem problem;
        assert_int_equal(
            read_with((struct delivery){.message_id = cases[i].message_id}, cases[i].body, &request, &problem),
            -EINVAL);
        assert_string_equal(request.request_id, cases[i].id);
        request_clear(&request);
    }
}

/* ---- what is refused ---- */

static void each_wrong_field_is_named(void **state) {
    (void)state;
    static const struct {
        const char *fields, *named;
    } cases[] = {
        {"\"request_id\":7,\"team_id\":1", "request_id"},
        {"\"request_id\":\"\",\"team_id\":1", "request_id"},
        {"\"request_id\":\"a\\u0000b\",\"team_id\":1", "may hold \\u0000 (line"},
        {"\"request_id\":\"a\",\"team_id\":1,\"\\u0000\":1", "may hold \\u0000 (line"},
        {"\"request_id\":\"r\"", "team_id or user_id"},
        {"\"request_id\":\"r\",\"team_id\":0", "team_id"},
        {"\"request_id\":\"r\",\"team_id\":\"1\"", "team_id"},
        {"\"request_id\":\"r\",\"user_id\":-1", "user_id"},
        {"\"request_id\":\"r\",\"team_id\":1,\"user_id\":true", "user_id"},
        {"\"request_id\":\"r\",\"team_id\":1,\"return_path\":7", "return_path"},
        {"\"request_id\":\"r\",\"team_id\":1,\"return_path\":\"//evil.example\"", "return_path"},
        {"\"request_id\":\"r\",\"team_id\":1,\"return_path\":\"/\\\\evil.example\"", "return_path"},
        {"\"request_id\":\"r\",\"team_id\":1,\"return_path\":\"https://evil.example\"", "return_path"},
        {"\"request_id\":\"r\",\"team_id\":1,\"return_path\":\"/a\\tb\"", "return_path"},
        {"\"request_id\":\"r\",\"team_id\":1,\"return_path\":\"/ü\"", "return_path"},
        {"\"request_id\":\"r\",\"team_id\":1,\"locale\":\"xx\"", "locale"},
        {"\"request_id\":\"r\",\"team_id\":1,\"locale\":7", "locale has to be a string"},
        {"\"request_id\":\"r\",\"team_id\":1,\"configuration\":\"cus_1\"", "configuration"},
        {"\"request_id\":\"r\",\"team_id\":1,\"configuration\":\"bpc_\"", "configuration"},
        {"\"request_id\":\"r\",\"team_id\":1,\"configuration\":\"bpc_ü\"", "configuration"},
        {"\"request_id\":\"r\",\"team_id\":1,\"configuration\":7", "configuration"},
        {"\"request_id\":\"r\",\"team_id\":1,\"return_path\":\"/a\x7f\"", "return_path"},
        {"\"request_id\":\"r\",\"team_id\":1.5", "team_id"},
        {"\"request_id\":\"r\",\"team_id\":99999999999999999999", "team_id"},
        {"\"request_id\":\"r\",\"team_id\":1.5,\"other\":99999999999999999999", "team_id"},
        {"\"request_id\":\"r\",\"team_id\":0,\"other\":99999999999999999999", "team_id"},
        {"\"team_id\":1", "request_id is missing"},
        {"\"request_id\":\"r\",\"team_id\":1,\"flow\":\"x\"", "flow"},
        {"\"request_id\":\"r\",\"team_id\":1,\"flow\":{\"type\":\"x\"}", "flow.type"},
        {"\"request_id\":\"r\",\"team_id\":1,\"flow\":{\"type\":\"subscription_cancel\"}", "flow.subscription"},
        {"\"request_id\":\"r\",\"team_id\":1,\"fresh\":1", "fresh"},
        {"\"request_id\":\"r\",\"team_id\":1,\"deadline\":1700000000", "deadline"},
        {"\"request_id\":\"r\",\"team_id\":1,\"deadline\":\"2030-02-30T00:00:00Z\"", "deadline"},
        {"\"request_id\":\"r\",\"team_id\":1,\"team_id\":2", "duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[200];
        (void)snprintf(body, sizeof body, "{%s}", cases[i].fields);
        refused_with((struct delivery){0}, body, "invalid_request", cases[i].named);
    }
}

static void what_is_too_long_is_named(void **state) {
    (void)state;
    char filler[RETURN_PATH_MAX + 1], body[RETURN_PATH_MAX + 200];
    memset(filler, 'a', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    (void)snprintf(body, sizeof body, "{\"request_id\":\"r\",\"team_id\":1,\"return_path\":\"/%s\"}", filler);
    refused_with((struct delivery){0}, body, "invalid_request", "return_path is longer than 2000 bytes");
    (void)snprintf(body, sizeof body, "{\"request_id\":\"r\",\"team_id\":1,\"configuration\":\"bpc_%s\"}", filler);
    refused_with((struct delivery){0}, body, "invalid_request", "configuration");
    (void)snprintf(body, sizeof body, "{\"request_id\":\"%s\",\"team_id\":1}", filler);
    refused_with((struct delivery){0}, body, "invalid_request", "request_id");
    refused_with((struct delivery){.message_id = filler}, "{\"team_id\":1}", "invalid_request", "message_id, which");
}

static void what_is_no_json_object_is_refused(void **state) {
    (void)state;
    static const char *const bodies[] = {"",     "null", "7",          "\"r\"",
                                         "[{}]", "{",    "{\"a\":1}x", "{\"request_id\":\"\xff\",\"team_id\":1}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        refused_with((struct delivery){.message_id = "m"}, bodies[i], "invalid_request", "JSON object");
}

static void a_body_is_read_to_its_length_and_no_further(void **state) {
    (void)state;
    static const char body[] = "{\"request_id\":\"r\",\"team_id\":1}{";
    const struct delivery delivery = {.body = body, .body_length = sizeof body - 2};
    struct request request;
    struct request_problem problem;
    assert_int_equal(request_read(&delivery, &rules, NOW, &request, &problem), 0);
    request_clear(&request);
}

static void deep_nesting_is_refused_not_followed(void **state) {
    (void)state;
    char body[DELIVERY_BODY_MAX + 1];
    memset(body, '[', DELIVERY_BODY_MAX);
    body[DELIVERY_BODY_MAX] = '\0';
    refused_with((struct delivery){.message_id = "m"}, body, "invalid_request", "JSON");
}

static void one_too_large_is_refused_from_its_properties(void **state) {
    (void)state;
    const struct delivery delivery = {.oversized = true, .body_size = 20000, .message_id = "m1"};
    struct request request;
    struct request_problem problem;
    assert_int_equal(request_read(&delivery, &rules, NOW, &request, &problem), -EINVAL);
    assert_string_equal(problem.code, "invalid_request");
    assert_non_null(strstr(problem.message, "20000"));
    assert_string_equal(request.request_id, "m1");
    request_clear(&request);
}

/* ---- where the reply may go ---- */

static void only_listed_queues_are_answered(void **state) {
    (void)state;
    static const char *const allowed[] = {NULL, "portal.replies", "portal.replies.billing", "portal.replies.a.b",
                                          "amq.gen-abc"};
    static const char *const refused[] = {"",           "invoices",        "portal.requests", "portal.dead",
                                          "portal.rep", "portal.replies2", "Portal.Replies",  " portal.replies"};
    struct request_problem problem;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        assert_int_equal(request_check_reply_to(allowed[i], patterns, &problem), 0);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (request_check_reply_to(refused[i], patterns, &problem) != -EINVAL)
            fail_msg("\"%s\" is allowed", refused[i]);
        assert_string_equal(problem.code, "reply_refused");
    }
}

static void the_workers_own_queues_are_lent_to_nobody(void **state) {
    (void)state;
    static char *const all[] = {"*", NULL};
    struct request_problem problem;
    assert_int_equal(request_check_reply_to("anything", all, &problem), 0);
    assert_int_equal(request_check_reply_to("portal.requests", all, &problem), -EINVAL);
    assert_int_equal(request_check_reply_to("portal.dead", all, &problem), -EINVAL);
}

static void a_forbidden_reply_address_comes_before_all_else(void **state) {
    (void)state;
    refused_with((struct delivery){.reply_to = "invoices"}, "nonsense", "reply_refused", "invoices");
    refused_with((struct delivery){.reply_to = "invoices", .oversized = true}, "", "reply_refused", "invoices");
}

/* ---- who may ask ---- */

static void a_team_may_be_asked_for_by_listed_senders_only(void **state) {
    (void)state;
    static const char team[] = "{\"request_id\":\"r\",\"team_id\":1}";
    static const char user[] = "{\"request_id\":\"r\",\"team_id\":1,\"user_id\":2}";
    rules.team_senders = senders;
    refused_with((struct delivery){0}, team, "forbidden_sender", "none");
    refused_with((struct delivery){.user_id = "stranger"}, team, "forbidden_sender", "stranger");
    refused_with((struct delivery){.user_id = "billing2"}, team, "forbidden_sender", "billing2");
    refused_with((struct delivery){.user_id = "stranger"}, "{\"request_id\":\"r\",\"team_id\":0}", "invalid_request",
                 "team_id");
    struct request request = taken_with((struct delivery){.user_id = "portalctl"}, team);
    request_clear(&request);
    request = taken_with((struct delivery){.user_id = "stranger"}, user);
    request_clear(&request);
    rules.team_senders = NULL;
    request = taken_with((struct delivery){0}, team);
    request_clear(&request);
}

/* ---- how long somebody waits ---- */

static void check_deadline(struct delivery delivery, const char *deadline, uint64_t expected) {
    char body[200];
    (void)snprintf(body, sizeof body, "{\"request_id\":\"r\",\"team_id\":1,\"deadline\":%s}", deadline);
    struct request request = taken_with(delivery, body);
    assert_int_equal(request.deadline, expected);
    request_clear(&request);
}

static void the_header_wins_over_the_body_and_the_body_over_the_default(void **state) {
    (void)state;
    static const char body[] = "\"2030-01-01T00:00:00Z\"";
    const uint64_t said = UINT64_C(1893456000000000);
    check_deadline((struct delivery){0}, body, said);
    check_deadline((struct delivery){.timestamp = 1600000000}, body, said);
    check_deadline((struct delivery){.deadline = "2030-01-01T00:00:01Z"}, body, said + 1000000);
    check_deadline((struct delivery){.deadline = "none"}, body, 0);
    check_deadline((struct delivery){.timestamp = 1600000000}, "null", UINT64_C(1600000900000000));
    check_deadline((struct delivery){.timestamp = 1600000000000}, "null", NOW + 900000000); /* milliseconds: no clock */
    rules.deadline_seconds = 0;
    check_deadline((struct delivery){.timestamp = 1600000000}, "null", 0);
    check_deadline((struct delivery){0}, body, said);
    rules.deadline_seconds = 900;
}

static void a_replays_headers_are_checked(void **state) {
    (void)state;
    static const char body[] = "{\"request_id\":\"r\",\"team_id\":1}";
    static const char *const generations[] = {
        "", "0", "-1", "x", "1x", "1.0", "0x1", "1 ", "1e3", "1000000001", "99999999999999999999"};
    for (size_t i = 0; i < sizeof generations / sizeof *generations; i++)
        refused_with((struct delivery){.generation = generations[i]}, body, "invalid_request", "x-portal-generation");
    refused_with((struct delivery){.deadline = "never"}, body, "invalid_request", "x-portal-deadline");
    refused_with((struct delivery){.deadline = ""}, body, "invalid_request", "x-portal-deadline");
    struct request request = taken_with((struct delivery){.generation = "7"}, body);
    assert_int_equal(request.generation, 7);
    request_clear(&request);
}

/* ---- what a replay needs ---- */

static void the_properties_are_kept_for_a_replay(void **state) {
    (void)state;
    const struct delivery all = {.message_id = "m",
                                 .correlation_id = "c\"",
                                 .reply_to = "portal.replies",
                                 .user_id = "billing",
                                 .timestamp = 1700000000,
                                 .traceparent = "00-1-2-01",
                                 .tracestate = "a=b"};
    char *text = request_properties(&all);
    assert_string_equal(text, "{\"message_id\":\"m\",\"correlation_id\":\"c\\\"\",\"reply_to\":\"portal.replies\","
                              "\"user_id\":\"billing\",\"traceparent\":\"00-1-2-01\",\"tracestate\":\"a=b\","
                              "\"timestamp\":1700000000}");
    free(text);
    text = request_properties(&(struct delivery){.timestamp = UINT64_MAX});
    assert_string_equal(text, "{}");
    free(text);
}

static void a_problem_is_told_in_whole_characters(void **state) {
    (void)state;
    char umlauts[200 * 2 + 1] = "", body[1000];
    for (size_t i = 0; i < 200; i++)
        memcpy(umlauts + 2 * i, "ü", sizeof "ü");
    (void)snprintf(body, sizeof body, "{\"request_id\":\"r\",\"team_id\":1,\"locale\":\"%s\"}", umlauts);
    struct request request;
    struct request_problem problem;
    assert_int_equal(read_with((struct delivery){0}, body, &request, &problem), -EINVAL);
    json_t *text = json_string(problem.message); /* NULL where it is not UTF-8 */
    assert_non_null(text);
    json_decref(text);
    request_clear(&request);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_is_an_id_and_an_asker),
        cmocka_unit_test(the_ask_is_the_same_however_it_is_written),
        cmocka_unit_test(a_default_is_the_same_ask_as_its_value),
        cmocka_unit_test(each_flow_is_taken_with_all_it_may_have),
        cmocka_unit_test(values_at_their_limits_are_taken),
        cmocka_unit_test(a_number_that_no_field_of_ours_has_may_be_huge),
        cmocka_unit_test(a_number_of_ours_is_an_integer_whatever_else_is_huge),
        cmocka_unit_test(the_message_id_serves_where_the_body_has_none),
        cmocka_unit_test(an_id_that_can_be_told_is_told_with_the_problem),
        cmocka_unit_test(each_wrong_field_is_named),
        cmocka_unit_test(what_is_too_long_is_named),
        cmocka_unit_test(what_is_no_json_object_is_refused),
        cmocka_unit_test(a_body_is_read_to_its_length_and_no_further),
        cmocka_unit_test(deep_nesting_is_refused_not_followed),
        cmocka_unit_test(one_too_large_is_refused_from_its_properties),
        cmocka_unit_test(only_listed_queues_are_answered),
        cmocka_unit_test(the_workers_own_queues_are_lent_to_nobody),
        cmocka_unit_test(a_forbidden_reply_address_comes_before_all_else),
        cmocka_unit_test(a_team_may_be_asked_for_by_listed_senders_only),
        cmocka_unit_test(the_header_wins_over_the_body_and_the_body_over_the_default),
        cmocka_unit_test(a_replays_headers_are_checked),
        cmocka_unit_test(the_properties_are_kept_for_a_replay),
        cmocka_unit_test(a_problem_is_told_in_whole_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
