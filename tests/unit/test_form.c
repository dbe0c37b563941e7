/* test_form.c — forms as Stripe reads them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "portal/form.h"

static void check(struct text *form, const char *expected) {
    char *text = text_take(form);
    assert_string_equal(text, expected);
    free(text);
}

static void fields_are_joined_and_encoded(void **state) {
    (void)state;
    struct text form = {0};
    form_add(&form, "customer", "cus_1");
    form_add(&form, "left_out", NULL);
    form_add(&form, "return_url", "https://app.example/a?b=c&d=e#f");
    form_add(&form, "empty", "");
    check(&form, "customer=cus_1&return_url=https%3A%2F%2Fapp.example%2Fa%3Fb%3Dc%26d%3De%23f&empty=");
}

static void what_is_not_plain_is_encoded_byte_by_byte(void **state) {
    (void)state;
    struct text form = {0};
    form_add(&form, "m[a b]", "-._~ +[]%\"\\\r\n\x01ü€");
    check(&form, "m[a%20b]=-._~%20%2B%5B%5D%25%22%5C%0D%0A%01%C3%BC%E2%82%AC");
}

static void json_becomes_brackets(void **state) {
    (void)state;
    struct text form = {0};
    json_t *value = json_pack("{s:{s:b s:b} s:[s i {s:s}] s:n s:f s:[] s:{}}", "a", "yes", 1, "no", 0, "list", "x", -7,
                              "id", "si_1", "nothing", "real", 1.5, "none", "neither");
    form_add_json(&form, "features", value);
    json_decref(value);
    check(&form, "features[a][yes]=true&features[a][no]=false&features[list][0]=x&features[list][1]=-7&"
                 "features[list][2][id]=si_1&features[none]="); /* an empty list empties Stripe's */
}

static void nothing_is_added_for_nothing(void **state) {
    (void)state;
    struct text form = {0};
    form_add_json(&form, "a", NULL);
    check(&form, "");
}

static void a_key_cannot_break_out_of_its_brackets_into_another_field(void **state) {
    (void)state;
    struct text form = {0};
    json_t *value = json_pack("{s:s}", "x]&customer=cus_2&y[", "v");
    form_add_json(&form, "m", value);
    json_decref(value);
    check(&form, "m[x]%26customer%3Dcus_2%26y[]=v");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_joined_and_encoded),
        cmocka_unit_test(what_is_not_plain_is_encoded_byte_by_byte),
        cmocka_unit_test(json_becomes_brackets),
        cmocka_unit_test(nothing_is_added_for_nothing),
        cmocka_unit_test(a_key_cannot_break_out_of_its_brackets_into_another_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
