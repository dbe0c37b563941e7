/* test_text.c — texts that grow, and bytes that are no UTF-8. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "portal/text.h"

static void a_text_grows_as_it_is_appended_to(void **state) {
    (void)state;
    struct text text = {0};
    char *empty = text_take(&text);
    assert_string_equal(empty, "");
    free(empty);
    for (int i = 0; i < 1000; i++)
        text_appendf(&text, "%d,", i % 10);
    text_append(&text, "end");
    text_append_bytes(&text, "\0x", 2);
    assert_int_equal(text.length, 2005);
    char *whole = text_take(&text);
    assert_memory_equal(whole + 1998, "9,end\0x", 8);
    assert_null(text.data);
    free(whole);
}

static void a_text_that_failed_stays_failed(void **state) {
    (void)state;
    struct text text = {0};
    text_append(&text, "kept no longer");
    text.failed = true;
    text_append(&text, "more");
    assert_null(text_take(&text));
    assert_false(text.failed);
    text_append(&text, "again");
    text_clear(&text);
    assert_null(text.data);
}

static void what_is_no_utf8_becomes_question_marks(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xe2\x82\xac", "\xe2\x82\xac"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80"},
        {"half \xe2\x82", "half ??"},
        {"\xc3", "?"},
        {"\x80|\xbf", "?|?"},
        {"\xc0\xaf", "??"},               /* overlong */
        {"\xc1\xbf", "??"},               /* likewise */
        {"\xe0\x9f\xbf", "???"},          /* likewise */
        {"\xe0\xa0\x80", "\xe0\xa0\x80"}, /* the first that is not */
        {"\xf0\x8f\xbf\xbf", "????"},     /* overlong */
        {"\xf0\x90\x80\x80", "\xf0\x90\x80\x80"},
        {"\xed\xa0\x80", "???"},      /* a surrogate */
        {"\xf4\x90\x80\x80", "????"}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", "????"}, /* likewise */
        {"\xff", "?"},
        {"\xe2(\xa1", "?(?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *string = strdup(cases[i][0]);
        assert_non_null(string);
        text_make_utf8(string);
        assert_string_equal(string, cases[i][1]);
        free(string);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_grows_as_it_is_appended_to),
        cmocka_unit_test(a_text_that_failed_stays_failed),
        cmocka_unit_test(what_is_no_utf8_becomes_question_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
