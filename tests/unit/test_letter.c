/* test_letter.c — dead letters as portalctl reads them: why, whose, whether again; AMQP properties as JSON and back;
 * and memory that runs out meanwhile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../worker/ctl/amqp-json.h"
#include "../../worker/ctl/letter.h"
#include "../../worker/ctl/portalctl.h"
#include "failing.h"

/* A message of these properties, as JSON, and this body; all borrowed from `json` and the pool. */
static struct wire_message message_of(json_t *json, amqp_pool_t *pool, const char *body) {
    struct wire_message message = {.body = amqp_cstring_bytes(body), .body_size = strlen(body)};
    assert_int_equal(amqp_from_json(json, &message.properties, pool), 0);
    return message;
}

/* Reads a letter of these properties and body, hands it to `look`, and forgets it. */
static void with_letter(const char *properties, const char *body, void (*look)(const struct letter *letter)) {
    amqp_pool_t pool;
    init_amqp_pool(&pool, 4096);
    json_t *json = json_loads(properties, 0, NULL);
    assert_non_null(json);
    struct wire_message message = message_of(json, &pool, body);
    struct letter letter;
    assert_int_equal(letter_read(&letter, &message), 0);
    look(&letter);
    letter_clear(&letter);
    json_decref(json);
    empty_amqp_pool(&pool);
}

/* ---- reading ---- */

static const char by_worker[] =
    "{\"message_id\": \"m-1\", \"correlation_id\": \"c-1\", \"reply_to\": \"q\", \"content_type\": \"application/json\","
    " \"timestamp\": 1700000000, \"headers\": {\"x-portal-reason\": \"stripe_unavailable\","
    " \"x-portal-error\": \"see https://x.example/secret\", \"x-portal-attempts\": 5, \"x-portal-worker\": \"w\","
    " \"x-portal-last-time\": \"2023-11-14T22:13:20.250Z\", \"x-portal-next-generation\": 3,"
    " \"x-portal-original\": {\"user_id\": \"shop\", \"priority\": 3, \"headers\": {\"own\": 1, \"CC\": [\"q\"],"
    " \"x-delivery-count\": 7}}}}";

static void look_by_worker(const struct letter *letter) {
    assert_true(letter->by_worker);
    assert_string_equal(letter->reason, "stripe_unavailable");
    assert_string_equal(letter->error, "see https://x.example/redacted");
    assert_string_equal(letter->request_id, "r-1");
    assert_int_equal(letter->team_id, 7);
    assert_int_equal(letter->user_id, 8);
    assert_int_equal(letter->attempts, 5);
    assert_int_equal(letter->next_generation, 3);
    assert_true(letter->died_at == UINT64_C(1700000000250000));
    char words[128];
    assert_null(letter_verdict(letter, words, sizeof words));
    char *line = letter_to_line(letter);
    assert_non_null(strstr(line, "\"user_id\":\"shop\""));
    assert_non_null(strstr(line, "\"priority\":3"));
    assert_non_null(strstr(line, "\"message_id\":\"m-1\""));
    assert_non_null(strstr(line, "\"headers\":{\"own\":1}"));
    assert_non_null(strstr(line, "\"x-reason\":\"stripe_unavailable\""));
    assert_null(strstr(line, "secret"));
    free(line);
}

static void look_by_broker(const struct letter *letter) {
    assert_false(letter->by_worker);
    assert_string_equal(letter->reason, "expired");
    assert_string_equal(letter->request_id, "m-2");
    assert_true(letter->died_at == UINT64_C(1700000000000000));
    json_t *original = letter_original(letter);
    json_t *wanted =
        json_loads("{\"message_id\": \"m-2\", \"expiration\": \"500\", \"headers\": {\"own\": true}}", 0, NULL);
    assert_true(json_equal(original, wanted));
    json_decref(original);
    json_decref(wanted);
}

static void look_bare(const struct letter *letter) {
    assert_string_equal(letter->reason, "unknown");
    assert_null(letter->error);
    assert_null(letter->request_id);
    assert_null(letter->body);
    assert_int_equal(letter->died_at, 0);
    json_t *json = letter_to_json(letter);
    assert_true(json_is_null(json_object_get(json, "died_at")));
    assert_true(json_is_null(json_object_get(json, "team_id")));
    json_decref(json);
    char words[128];
    assert_non_null(strstr(letter_verdict(letter, words, sizeof words), "JSON"));
}

static void look_odd(const struct letter *letter) {
    assert_string_equal(letter->reason, "poisonous");
    assert_int_equal(letter->died_at, 0);
    assert_int_equal(letter->next_generation, 0);
    assert_int_equal(letter->team_id, 0);
    json_t *original = letter_original(letter);
    assert_int_equal(json_object_size(original), 1); /* the headers, empty */
    json_decref(original);
    char words[128];
    assert_string_equal(letter_verdict(letter, words, sizeof words), "poisonous");
}

static void letters_say_why_and_whose(void **state) {
    (void)state;
    with_letter(by_worker, "{\"request_id\": \"r-1\", \"team_id\": 7, \"user_id\": 8}", look_by_worker);
    with_letter("{\"message_id\": \"m-2\", \"headers\": {\"own\": true, \"x-first-death-queue\": \"portal.requests\","
                " \"x-death\": [{\"reason\": \"expired\", \"time\": 1700000000, \"original-expiration\": \"500\"}]}}",
                "{\"team_id\": \"7\"}", look_by_broker);
    with_letter("{}", "[1]", look_bare);
    with_letter("{}", "not JSON", look_bare);
    with_letter("{\"headers\": {\"x-death\": \"none\"}}", "", look_bare);
    with_letter(
        "{\"headers\": {\"x-portal-reason\": \"poisonous\", \"x-portal-error\": 7, \"x-portal-last-time\": \"soon\","
        " \"x-portal-next-generation\": 0, \"x-portal-original\": \"?\"}}",
        "{\"team_id\": -7}", look_odd);
}

/* ---- sending again ---- */

static void a_request_is_revived_for_whoever_sends_it(void **state) {
    (void)state;
    json_t *properties =
        json_loads("{\"user_id\": \"shop\", \"expiration\": \"5\", \"delivery_mode\": 1, \"type\": \"t\"}", 0, NULL);
    properties = revive(properties, 4, "none");
    json_t *headers = json_object_get(properties, "headers");
    assert_int_equal(json_integer_value(json_object_get(headers, "x-portal-generation")), 4);
    assert_string_equal(json_string_value(json_object_get(headers, "x-portal-deadline")), "none");
    assert_string_equal(json_string_value(json_object_get(properties, "user_id")), "");
    assert_string_equal(json_string_value(json_object_get(properties, "type")), "t");
    assert_true(json_is_integer(json_object_get(properties, "timestamp")));
    assert_null(json_object_get(properties, "expiration"));
    assert_null(json_object_get(properties, "delivery_mode"));
    properties = revive(properties, 0, "2023-11-14T22:13:20Z");
    headers = json_object_get(properties, "headers");
    assert_int_equal(json_integer_value(json_object_get(headers, "x-portal-generation")), 4);
    assert_string_equal(json_string_value(json_object_get(headers, "x-portal-deadline")), "2023-11-14T22:13:20Z");
    json_decref(properties);
    assert_null(revive(NULL, 1, "none"));
}

/* ---- choosing ---- */

static bool chosen;
static struct letter_filter filter;

static void look_chosen(const struct letter *letter) {
    chosen = filter_matches(&filter, letter);
}

static bool chooses(const char *name, const char *value) {
    char *names[] = {NULL, NULL};
    char text[64];
    (void)snprintf(text, sizeof text, "%s", value);
    filter = (struct letter_filter){0};
    if (strcmp(name, "name") == 0)
        names[0] = text;
    else if (strcmp(name, "reason") == 0)
        filter.reasons[0] = text;
    else if (strcmp(name, "team") == 0)
        filter.team = strtoull(value, NULL, 10);
    else if (strcmp(name, "since") == 0)
        filter.since = strtoull(value, NULL, 10);
    else if (strcmp(name, "until") == 0)
        filter.until = strtoull(value, NULL, 10);
    assert_int_equal(filter_names(&filter, names), 0);
    with_letter(by_worker, "{\"request_id\": \"r-1\", \"team_id\": 7}", look_chosen);
    assert_true(!names[0] || filter.found[0] == chosen);
    filter_clear(&filter);
    return chosen;
}

static void letters_are_chosen_by_each_condition(void **state) {
    (void)state;
    assert_true(chooses("nothing", ""));
    assert_true(chooses("name", "r-1"));
    assert_false(chooses("name", "m-1"));
    assert_true(chooses("reason", "stripe_unavailable"));
    assert_false(chooses("reason", "expired"));
    assert_true(chooses("team", "7"));
    assert_false(chooses("team", "8"));
    assert_true(chooses("since", "1700000000250000"));
    assert_false(chooses("since", "1700000000250001"));
    assert_true(chooses("until", "1700000000250001"));
    assert_false(chooses("until", "1700000000250000"));
}

/* ---- AMQP and JSON ---- */

static json_t *json_of(amqp_field_value_t value) {
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("k"), .value = value};
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_HEADERS_FLAG,
                                          .headers = {.num_entries = 1, .entries = &entry}};
    json_t *json = amqp_to_json(&properties);
    json_t *found = json_incref(json_object_get(json_object_get(json, "headers"), "k"));
    json_decref(json);
    return found;
}

static void check_json(amqp_field_value_t value, const char *text) {
    json_t *json = json_of(value);
    char *found = json_dumps(json, JSON_ENCODE_ANY | JSON_COMPACT);
    assert_string_equal(found, text);
    free(found);
    json_decref(json);
}

static void every_kind_of_header_comes_as_the_nearest(void **state) {
    (void)state;
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = true}, "true");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_BOOLEAN}, "false");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_I8, .value.i8 = -5}, "-5");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_I64, .value.i64 = INT64_MIN}, "-9223372036854775808");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_U32, .value.u32 = UINT32_MAX}, "4294967295");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_F32, .value.f32 = 0.5F}, "0.5");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_F64, .value.f64 = -0.25}, "-0.25");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_TIMESTAMP, .value.u64 = 1700000000}, "1700000000");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_BYTES, .value.bytes = amqp_cstring_bytes("a\xff")},
               "\"a\xef\xbf\xbd\"");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_DECIMAL}, "null");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_VOID}, "null");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_ARRAY}, "[]");
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_TABLE}, "{}");
}

static void what_is_nested_too_deep_is_cut(void **state) {
    (void)state;
    amqp_field_value_t values[20];
    for (int i = 19; i >= 0; i--)
        values[i] = i == 19 ? (amqp_field_value_t){.kind = AMQP_FIELD_KIND_I32, .value.i32 = 7}
                            : (amqp_field_value_t){.kind = AMQP_FIELD_KIND_ARRAY, .value.array = {1, &values[i + 1]}};
    check_json(values[0], "[[[[[[[[[[[[[[[[null]]]]]]]]]]]]]]]]");
    check_json(values[5], "[[[[[[[[[[[[[[7]]]]]]]]]]]]]]");
}

static void properties_survive_json(void **state) {
    (void)state;
    static const char text[] =
        "{\"content_type\":\"a\",\"content_encoding\":\"b\",\"delivery_mode\":1,\"priority\":255,\"correlation_id\":\"\","
        "\"reply_to\":\"d\",\"expiration\":\"5\",\"message_id\":\"e\",\"timestamp\":1700000000,\"type\":\"f\","
        "\"user_id\":\"g\",\"app_id\":\"h\",\"headers\":{\"list\":[1,-2,0.5,true,false,null,\"x\",[],{}],\"t\":{\"a\":{}}}}";
    amqp_pool_t pool;
    char error[256];
    init_amqp_pool(&pool, 4096);
    json_t *json = json_loads(text, 0, NULL);
    assert_int_equal(amqp_json_check(json, error, sizeof error), 0);
    struct wire_message message = message_of(json, &pool, "");
    json_t *again = amqp_to_json(&message.properties);
    assert_true(json_equal(json, again));
    json_decref(again);
    json_decref(json);
    empty_amqp_pool(&pool);
}

static void a_delivery_has_what_the_properties_say(void **state) {
    (void)state;
    static const struct {
        const char *headers, *generation, *deadline;
    } cases[] = {{"{}", NULL, NULL},
                 {"{\"x-portal-generation\": 5, \"x-portal-deadline\": \"none\"}", "5", "none"},
                 {"{\"x-portal-generation\": \"5\", \"x-portal-deadline\": 7}", "not an integer", "not a text"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *json = json_pack("{ss ss sf}", "message_id", "m", "user_id", "u", "timestamp", 1700000000.0);
        assert_int_equal(json_object_set_new(json, "headers", json_loads(cases[i].headers, 0, NULL)), 0);
        struct delivery delivery = {0};
        char generation[24];
        delivery_from_json(&delivery, json, generation);
        assert_string_equal(delivery.message_id, "m");
        assert_string_equal(delivery.user_id, "u");
        assert_null(delivery.reply_to);
        assert_true(delivery.timestamp == 1700000000);
        assert_string_equal(delivery.generation ? delivery.generation : "-",
                            cases[i].generation ? cases[i].generation : "-");
        assert_string_equal(delivery.deadline ? delivery.deadline : "-", cases[i].deadline ? cases[i].deadline : "-");
        json_decref(json);
    }
}

/* ---- memory ---- */

static void whole_life(bool failing) {
    amqp_table_entry_t original[] = {
        {.key = amqp_cstring_bytes("user_id"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("shop")}}};
    amqp_field_value_t list[] = {{.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = true}};
    amqp_table_entry_t headers[] = {
        {.key = amqp_cstring_bytes("x-portal-reason"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("expired")}},
        {.key = amqp_cstring_bytes("x-portal-error"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("https://x.example/secret")}},
        {.key = amqp_cstring_bytes("x-portal-original"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = {1, original}}},
        {.key = amqp_cstring_bytes("list"), .value = {.kind = AMQP_FIELD_KIND_ARRAY, .value.array = {1, list}}},
    };
    struct wire_message message = {.properties = {._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG,
                                                  .message_id = amqp_cstring_bytes("m-1"),
                                                  .headers = {.num_entries = 4, .entries = headers}},
                                   .body =
                                       amqp_cstring_bytes("{\"team_id\": 7, \"note\": \"https://x.example/secret\"}")};
    message.body_size = message.body.len;
    struct letter letter;
    int r = letter_read(&letter, &message);
    assert_true(r == 0 || (failing && r == -ENOMEM));
    if (r < 0)
        return;
    json_t *json = letter_to_json(&letter);
    char *line = letter_to_line(&letter);
    json_t *again = revive(letter_original(&letter), 2, "none");
    assert_true(failing || (json && line && again));
    assert_true(!line || !strstr(line, "secret"));
    assert_true(!again || json_is_string(json_object_get(again, "user_id")));
    char words[128];
    (void)letter_verdict(&letter, words, sizeof words);
    json_decref(again);
    free(line);
    json_decref(json);
    letter_clear(&letter);
}

static void memory_that_runs_out_is_told(void **state) {
    (void)state;
    assert_true(with_each_failing(whole_life) > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_say_why_and_whose),
        cmocka_unit_test(a_request_is_revived_for_whoever_sends_it),
        cmocka_unit_test(letters_are_chosen_by_each_condition),
        cmocka_unit_test(every_kind_of_header_comes_as_the_nearest),
        cmocka_unit_test(what_is_nested_too_deep_is_cut),
        cmocka_unit_test(properties_survive_json),
        cmocka_unit_test(a_delivery_has_what_the_properties_say),
        cmocka_unit_test(memory_that_runs_out_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
