/* test_timestamp.c — times as RFC 3339 writes them, and what is none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "portal/timestamp.h"

static void times_are_read_to_the_microsecond(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t microseconds;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2023-11-14T22:13:20Z", 1700000000000000},
        {"2023-11-14t22:13:20z", 1700000000000000},
        {"2023-11-14 22:13:20Z", 1700000000000000},
        {"2023-11-14T22:13:20.5Z", 1700000000500000},
        {"2023-11-14T22:13:20.1234567Z", 1700000000123456},
        {"2023-11-14T23:43:20+01:30", 1700000000000000},
        {"2023-11-14T20:43:20-01:30", 1700000000000000},
        {"2016-12-31T23:59:60Z", 1483228800000000}, /* a leap second */
        {"2024-02-29T00:00:00Z", 1709164800000000},
        {"9999-12-31T23:59:59Z", TIMESTAMP_MAX_SECONDS * UINT64_C(1000000)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t found = 1;
        assert_int_equal(timestamp_parse(cases[i].text, &found), 0);
        assert_int_equal(found, cases[i].microseconds);
    }
}

static void what_is_no_time_is_refused(void **state) {
    (void)state;
    static const char *const cases[] = {
        "",
        "tomorrow",
        "2023",
        "2023-11",
        "2023-11-1",
        "2023/11/14T22:13:20Z",
        "2023-11/14T22:13:20Z",
        "2023-11-14",
        "2023-11-14_22:13:20Z",
        "2023-11-14T22.13:20Z",
        "2023-11-14T22:13.20Z",
        "2023-11-14T22:13Z",
        "2023-11-14T22:13:2Z",
        "2023-11-14T22:13:20",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:20X",
        "2023-11-14T22:13:20+1:30",
        "2023-11-14T22:13:20+01.30",
        "2023-11-14T22:13:20+01:3",
        "2023-11-14T22:13:20+24:00",
        "2023-11-14T22:13:20-01:60",
        "2023-11-14T22:13:20Z ",
        "2023-00-14T22:13:20Z",
        "2023-13-14T22:13:20Z",
        "2023-11-00T22:13:20Z",
        "2023-11-31T22:13:20Z",
        "2023-02-29T22:13:20Z",
        "2023-11-14T24:00:00Z",
        "2023-11-14T22:60:20Z",
        "2023-11-14T22:13:61Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "2023-11-14T:2:13:20Z",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t found = 1;
        if (timestamp_parse(cases[i], &found) != -EINVAL)
            fail_msg("\"%s\" is taken for a time", cases[i]);
        assert_int_equal(found, 1);
    }
}

static void times_are_written_to_the_second_or_the_millisecond(void **state) {
    (void)state;
    char text[TIMESTAMP_SIZE];
    timestamp_format(text, UINT64_C(1700000000123999), false);
    assert_string_equal(text, "2023-11-14T22:13:20Z");
    timestamp_format(text, UINT64_C(1700000000023999), true);
    assert_string_equal(text, "2023-11-14T22:13:20.023Z");
    timestamp_format(text, 0, true);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    timestamp_format(text, UINT64_C(253402300799999999), true);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    timestamp_format(text, UINT64_C(253402300800000000), true);
    assert_string_equal(text, "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_read_to_the_microsecond),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(times_are_written_to_the_second_or_the_millisecond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
