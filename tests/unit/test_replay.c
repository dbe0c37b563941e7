/* test_replay.c — lines of replay files: read, refused, compared, written; and memory that runs out meanwhile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../worker/ctl/amqp-json.h"
#include "../../worker/ctl/replay-expect.h"
#include "../../worker/ctl/replay-line.h"
#include "failing.h"

static int read_line(const char *text, struct replay_line *line, char error[static 256]) {
    error[0] = '\0';
    return replay_line_read(line, text, strlen(text), "RUN", error, 256);
}

/* ---- reading ---- */

static void bodies_are_taken_as_they_are_written(void **state) {
    (void)state;
    static const struct {
        const char *text, *body;
    } cases[] = {
        {"{\"request\": {}}", "{}"},
        {" {\t\"request\" :\r {\"a\" : [1 , {\"b\": \"x, ] } \\\" y\"}]  } } ",
         "{\"a\":[1,{\"b\":\"x, ] } \\\" y\"}]}"},
        {"{\"x-r\": [\"request\", {\"request\": 1}], \"request\": 1.50e3, \"name\": \"n\"}", "1.50e3"},
        {"{\"request\": 123456789012345678901234567890}", "123456789012345678901234567890"},
        {"{\"request\": \"{run} {run}\"}", "\"RUN RUN\""},
        {"{\"body\": \"\"}", ""},
        {"{\"body\": \"{run\"}", "{run"},
        {"{\"body_base64\": \"\"}", ""},
        {"{\"body_base64\": \"TQ==\"}", "M"},
        {"{\"body_base64\": \"TWE=\"}", "Ma"},
        {"{\"body_base64\": \"TWFu+/8=\"}", "Man\xfb\xff"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct replay_line line;
        char error[256];
        if (read_line(cases[i].text, &line, error) != 1)
            fail_msg("%s: %s", cases[i].text, error);
        assert_int_equal(line.body_length, strlen(cases[i].body));
        assert_memory_equal(line.body, cases[i].body, line.body_length);
        replay_line_clear(&line);
    }
}

static void empty_lines_and_remarks_are_none(void **state) {
    (void)state;
    static const char *const cases[] = {"", " ", "\t\r", "# {\"request\": {}}"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct replay_line line;
        char error[256];
        assert_int_equal(read_line(cases[i], &line, error), 0);
        replay_line_clear(&line);
    }
}

static void what_is_wrong_with_a_line_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {" # remark", "not JSON"},
        {"[]", "has to be a JSON object"},
        {"{\"request\": {}, \"body\": \"x\", \"body_base64\": \"\"}", "exactly one of"},
        {"{\"body\": 7}", "body has to be a text"},
        {"{\"body_base64\": 7}", "body_base64 has to be a text"},
        {"{\"body_base64\": \"abc\"}", "RFC 4648"},
        {"{\"body_base64\": \"a=bc\"}", "RFC 4648"},
        {"{\"body_base64\": \"ab_-\"}", "RFC 4648"},
        {"{\"r\\u0065quest\": {}}", "without escapes"},
        {"{\"request\": {}, \"name\": 7}", "name has to be a text"},
        {"{\"request\": {}, \"before\": []}", "before has to be an object"},
        {"{\"request\": {}, \"before\": {\"team\": 1}}", "unknown in before: team"},
        {"{\"request\": {}, \"expect\": 1}", "expect has to be an object"},
        {"{\"request\": {}, \"expect\": {\"answer\": 1}}", "unknown in expect: answer"},
        {"{\"request\": {}, \"expect\": {\"same_as\": 1}}", "expect.same_as has to be"},
        {"{\"request\": {}, \"expect\": {\"calls\": [7]}}", "call has to be an object"},
        {"{\"request\": {}, \"expect\": {\"calls\": [{\"x\": 1}, {}]}}", "unknown in call: x"},
        {"{\"request\": {}, \"properties\": 7}", "properties has to be an object"},
        {"{\"request\": {}, \"properties\": {\"cluster_id\": \"x\"}}", "unknown in properties: cluster_id"},
        {"{\"request\": {}, \"properties\": {\"delivery_mode\": 256}}", "from 0 to 255"},
        {"{\"request\": {}, \"properties\": {\"delivery_mode\": -1}}", "from 0 to 255"},
        {"{\"request\": {}, \"properties\": {\"delivery_mode\": 1.5}}", "from 0 to 255"},
        {"{\"request\": {}, \"properties\": {\"delivery_mode\": 1e300}}", "from 0 to 255"},
        {"{\"request\": {}, \"properties\": {\"timestamp\": -1e300}}", "seconds since 1970"},
        {"{\"request\": {}, \"properties\": {\"headers\": 1}}", "properties.headers has to be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct replay_line line;
        char error[256];
        assert_int_equal(read_line(cases[i].text, &line, error), -EINVAL);
        if (!strstr(error, cases[i].words))
            fail_msg("%s: %s", cases[i].text, error);
        replay_line_clear(&line);
    }
}

/* A line whose properties are `before` and then the letter x so often and then `after`. */
static int read_long(const char *before, size_t count, const char *after) {
    struct replay_line line;
    char error[256];
    char *text = malloc(count + 256);
    assert_non_null(text);
    int length = sprintf(text, "{\"request\": {}, \"properties\": {%s", before);
    memset(text + length, 'x', count);
    (void)sprintf(text + length + count, "%s}}", after);
    int r = read_line(text, &line, error);
    replay_line_clear(&line);
    free(text);
    return r;
}

static void what_amqp_has_no_room_for_is_refused(void **state) {
    (void)state;
    assert_int_equal(read_long("\"type\": \"", 255, "\""), 1);
    assert_int_equal(read_long("\"type\": \"", 256, "\""), -EINVAL);
    assert_int_equal(read_long("\"headers\": {\"", 127, "\": 1}"), 1);
    assert_int_equal(read_long("\"headers\": {\"", 128, "\": 1}"), -EINVAL);
    assert_int_equal(read_long("\"headers\": {\"a\": \"", 65000, "\"}"), 1);
    assert_int_equal(read_long("\"headers\": {\"a\": \"", 65536, "\"}"), -EINVAL);
    assert_int_equal(read_long("\"headers\": {\"a\": [\"", 65536, "\", 1]}"), -EINVAL);
    assert_int_equal(read_long("\"headers\": {\"a\": [[[[[[[[[[[[[[[[[\"", 1, "\"]]]]]]]]]]]]]]]]]}"), -EINVAL);
}

/* ---- comparing ---- */

static void compare(const char *expected, const char *actual, const char *found) {
    json_t *one = json_loads(expected, JSON_DECODE_ANY, NULL);
    json_t *other = actual ? json_loads(actual, JSON_DECODE_ANY, NULL) : NULL;
    struct text differences = {0};
    assert_non_null(one);
    replay_differences(one, other, "reply", &differences);
    assert_string_equal(differences.data ? differences.data : "", found);
    text_clear(&differences);
    json_decref(one);
    json_decref(other);
}

static void differences_are_told_field_by_field(void **state) {
    (void)state;
    compare("{\"a\": {\"b\": 1}, \"c\": null}", "{\"a\": {\"b\": 1, \"x\": 2}, \"c\": null, \"y\": 3}", "");
    compare("{\"a\": {\"b\": 1}, \"c\": true}", "{\"a\": {\"b\": 2}}",
            "reply.a.b is 2, expected 1; reply.c is absent, expected true");
    compare("{\"a\": {\"b\": 1}}", "{\"a\": null}", "reply.a is null, expected {\"b\":1}");
    compare("1", "1.0", "");
    compare("1.5", "1.5", "");
    compare("1", "true", "reply is true, expected 1");
    compare("[1, \"x\"]", "[1, \"x\"]", "");
    compare("[1]", "[1, 2]", "reply is [1,2], expected [1]");
    compare("{}", NULL, "reply is absent, expected {}");
}

static void a_text_may_be_a_pattern_for_the_whole_text(void **state) {
    (void)state;
    compare("\"~a|bc\"", "\"bc\"", "");
    compare("\"~a|bc\"", "\"abc\"", "reply is \"abc\", expected \"~a|bc\"");
    compare("\"~a*\"", "7", "reply is 7, expected \"~a*\"");
    compare("\"~(\"", "\"(\"", "reply is \"(\", expected \"~(\"");
    compare("\"~\"", "\"\"", "");
    compare("\"\"", "\"x\"", "reply is \"x\", expected \"\"");
}

static void a_portal_url_is_not_shown(void **state) {
    (void)state;
    compare("{\"session\": {\"url\": \"https://p.example/secret\"}}",
            "{\"session\": {\"url\": \"https://p.example/other\"}}", "reply.session.url is (a URL), expected (a URL)");
    compare("{\"session\": {\"url\": \"~https://x.*\"}}", "{\"session\": {\"url\": \"https://p.example/other\"}}",
            "reply.session.url is (a URL), expected \"~https://x.*\"");
    compare("{\"session\": null}", "{\"session\": {\"url\": \"https://p.example/secret\", \"id\": \"bps_1\"}}",
            "reply.session is {\"url\":\"(a URL)\",\"id\":\"bps_1\"}, expected null");
    compare("null", "{\"session\": {\"url\": \"https://p.example/secret\"}}",
            "reply is {\"session\":{\"url\":\"(a URL)\"}}, expected null");
}

/* ---- writing ---- */

static void urls_are_cut_after_their_host(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"no URL: http, https:/x, xhttp://", "no URL: http, https:/x, xhttp://"},
        {"https://a.example", "https://a.example"},
        {"https://a.example/ x", "https://a.example/ x"},
        {"see HTTPS://a.example/p?q#f, then", "see HTTPS://a.example/redacted then"},
        {"<http://u:p@a.example:81>\"https://b.example?x\"",
         "<http://a.example:81/redacted>\"https://b.example/redacted\""},
        {"https://a.example\\u0026x", "https://a.example/redacted"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length = 0;
        char *clean = replay_redact(cases[i][0], strlen(cases[i][0]), &length);
        assert_non_null(clean);
        assert_string_equal(clean, cases[i][1]);
        assert_int_equal(length, strlen(cases[i][1]));
        free(clean);
    }
}

static char *written(const char *body, size_t length, const char *properties, const char *remark) {
    json_t *tidied = json_loads(properties, 0, NULL);
    assert_non_null(tidied);
    replay_tidy(tidied);
    return replay_line_write(body, length, tidied, remark ? json_loads(remark, 0, NULL) : NULL);
}

static void a_message_is_written_so_that_it_can_be_read(void **state) {
    (void)state;
    static const struct {
        const char *body;
        size_t length;
        const char *properties, *line;
    } cases[] = {
        {"{\"a\": [\"https://p.example/x\", {\"b\": null}]}", 43, "{}",
         "{\"request\":{\"a\":[\"https://p.example/redacted\",{\"b\":null}]}}"},
        {"[1]", 3, "{\"content_type\": \"application/json\", \"delivery_mode\": 2, \"headers\": {}}",
         "{\"body\":\"[1]\"}"},
        {"", 0, "{\"content_type\": \"text/plain\", \"delivery_mode\": 1}",
         "{\"body\":\"\",\"properties\":{\"content_type\":\"text/plain\",\"delivery_mode\":1}}"},
        {"\xff", 1, "{\"reply_to\": \"q\", \"timestamp\": 5, \"expiration\": \"9\"}",
         "{\"body_base64\":\"/w==\",\"properties\":{\"x-reply_to\":\"q\",\"x-timestamp\":5,\"x-expiration\":\"9\"}}"},
        {"a\0", 2, "{\"headers\": {\"n\": 1}}", "{\"body_base64\":\"YQA=\",\"properties\":{\"headers\":{\"n\":1}}}"},
        {"a\0b", 3, "{}", "{\"body_base64\":\"YQBi\"}"},
        {"[]", 2, "{\"headers\": {\"back\": [\"http://u:p@p.example/x\"]}, \"type\": \"https://p.example/?k=1\"}",
         "{\"body\":\"[]\",\"properties\":{\"headers\":{\"back\":[\"http://p.example/redacted\"]},"
         "\"type\":\"https://p.example/redacted\"}}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *line = written(cases[i].body, cases[i].length, cases[i].properties, NULL);
        assert_string_equal(line, cases[i].line);
        free(line);
    }
    char *line = written("[]", 2, "{}", "{\"x-reason\": \"why\"}");
    assert_string_equal(line, "{\"body\":\"[]\",\"x-reason\":\"why\"}");
    free(line);
}

/* ---- memory ---- */

static void read_and_compare(bool failing) {
    static const char text[] =
        "{\"name\": \"{run}\", \"request\": {\"a\": [1, \"x\"]}, \"properties\": {\"type\": \"t\", "
        "\"headers\": {\"n\": 7, \"l\": [true, null, 1.5]}}, \"expect\": {\"reply\": {\"a\": 1}}}";
    struct replay_line line;
    char error[256];
    int r = read_line(text, &line, error);
    assert_true(failing ? r == 1 || r < 0 : r == 1);
    if (r == 1) {
        assert_string_equal(line.body, "{\"a\":[1,\"x\"]}");
        struct text found = {0};
        replay_differences(json_object_get(line.expect, "reply"), line.properties, "reply", &found);
        assert_true(failing || strcmp(found.data, "reply.a is absent, expected 1") == 0);
        text_clear(&found);
    }
    replay_line_clear(&line);
}

static void write_one(bool failing) {
    static const char *const bodies[] = {"{\"a\": [\"https://p.example/x\", 1]}", "https://p.example/x", "\xff\xfe"};
    static const char *const lines[] = {
        "{\"request\":{\"a\":[\"https://p.example/redacted\",1]},\"properties\":{\"type\":\"t\"},\"x-why\":1}",
        "{\"body\":\"https://p.example/redacted\",\"properties\":{\"type\":\"t\"},\"x-why\":1}",
        "{\"body_base64\":\"//4=\",\"properties\":{\"type\":\"t\"},\"x-why\":1}"};
    for (size_t i = 0; i < 3; i++) {
        char *line = replay_line_write(bodies[i], strlen(bodies[i]), json_pack("{ss}", "type", "t"),
                                       json_pack("{si}", "x-why", 1));
        if (!failing)
            assert_string_equal(line, lines[i]);
        else if (line)
            assert_null(strstr(line, "example/x"));
        free(line);
    }
}

static void memory_that_runs_out_is_told(void **state) {
    (void)state;
    assert_true(with_each_failing(read_and_compare) > 20);
    assert_true(with_each_failing(write_one) > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_taken_as_they_are_written),
        cmocka_unit_test(empty_lines_and_remarks_are_none),
        cmocka_unit_test(what_is_wrong_with_a_line_is_named),
        cmocka_unit_test(what_amqp_has_no_room_for_is_refused),
        cmocka_unit_test(differences_are_told_field_by_field),
        cmocka_unit_test(a_text_may_be_a_pattern_for_the_whole_text),
        cmocka_unit_test(a_portal_url_is_not_shown),
        cmocka_unit_test(urls_are_cut_after_their_host),
        cmocka_unit_test(a_message_is_written_so_that_it_can_be_read),
        cmocka_unit_test(memory_that_runs_out_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
