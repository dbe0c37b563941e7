/* test_store.c — the parts of the store that need no server: values in PostgreSQL's binary form, what errors mean, and
 * whether DATABASE_URL makes sense. */
#include <errno.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../worker/links/store-internal.h"
#include "links/database.h"

static void assert_parameter(const struct parameters *parameters, int number, const char *bytes, size_t length) {
    size_t end = number + 1 < parameters->count ? parameters->begins[number + 1] : parameters->length;
    assert_int_equal(end - parameters->begins[number], length);
    assert_memory_equal(parameters->data + parameters->begins[number], bytes, length);
}

static void values_are_in_network_order(void **state) {
    (void)state;
    struct parameters parameters = {0};
    parameter_int8(&parameters, -2);
    parameter_bool(&parameters, true);
    parameter_text(&parameters, "a\"b\\c");
    parameter_text(&parameters, NULL);
    parameter_text(&parameters, "");
    parameter_bytes(&parameters, "\0x", 2);
    assert_int_equal(parameters.count, 6);
    assert_false(parameters.failed);
    assert_parameter(&parameters, 0, "\xff\xff\xff\xff\xff\xff\xff\xfe", 8);
    assert_parameter(&parameters, 1, "\1", 1);
    assert_parameter(&parameters, 2, "a\"b\\c", 5);
    assert_true(parameters.nulls[3]);
    assert_false(parameters.nulls[4]);
    assert_parameter(&parameters, 5, "\0x", 2);
    parameters_free(&parameters);
}

static void arrays_are_as_array_recv_reads_them(void **state) {
    (void)state;
    struct parameters parameters = {0};
    parameter_array(&parameters, PARAMETER_TEXT, 2);
    element_text(&parameters, "ab");
    element_text(&parameters, NULL);
    parameter_array(&parameters, PARAMETER_INT8, 1);
    element_int8(&parameters, 1);
    parameter_array(&parameters, PARAMETER_BOOL, 0);
    assert_parameter(&parameters, 0, "\0\0\0\1\0\0\0\1\0\0\0\x19\0\0\0\2\0\0\0\1\0\0\0\2ab\xff\xff\xff\xff", 30);
    assert_parameter(&parameters, 1, "\0\0\0\1\0\0\0\0\0\0\0\x14\0\0\0\1\0\0\0\1\0\0\0\x08\0\0\0\0\0\0\0\1", 32);
    assert_parameter(&parameters, 2, "\0\0\0\0\0\0\0\0\0\0\0\x10", 12);
    parameters_reset(&parameters);
    assert_int_equal(parameters.count, 0);
    parameters_free(&parameters);
}

static void each_error_is_the_rows_or_ours_or_the_connections(void **state) {
    (void)state;
    static const struct {
        const char *sqlstate;
        enum store_status status;
    } cases[] = {
        {NULL, STORE_LOST},         {"", STORE_LOST},           {"08006", STORE_LOST},   {"57P01", STORE_LOST},
        {"57P02", STORE_LOST},      {"57P03", STORE_LOST},      {"25006", STORE_LOST},   {"26000", STORE_LOST},
        {"22021", STORE_BAD_VALUE}, {"23514", STORE_BAD_VALUE}, {"28000", STORE_DENIED}, {"42501", STORE_DENIED},
        {"42P01", STORE_DENIED},    {"3F000", STORE_DENIED},    {"42703", STORE_DENIED}, {"42883", STORE_DENIED},
        {"42601", STORE_FAILED},    {"40P01", STORE_FAILED},    {"53100", STORE_FAILED}, {"55P03", STORE_FAILED},
        {"57014", STORE_FAILED},    {"XX000", STORE_FAILED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(statement_status(cases[i].sqlstate), cases[i].status);
}

static void a_url_is_what_libpq_takes(void **state) {
    (void)state;
    static const char *const good[] = {
        "postgresql://user:pass%40word@db.example.com:5432/app?sslmode=require",
        "postgres://db",
        "host=/run/postgresql dbname=app",
        "postgresql://a,b:5433/app?target_session_attrs=any",
    };
    static const char *const bad[] = {
        "",
        "secret",
        "postgresql://user:secret@x@host/app",
        "postgresql://user:sec%zzret@host/app",
        "postgresql://host:70000/app",
        "postgresql://host:0/app",
        "mysql://host/secret",
        "host=a colour=secret",
        "postgresql://a:5432,b:secret/app",
    };
    char error[256];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(store_url_check(good[i], error, sizeof error), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error[0] = '\0';
        assert_int_equal(store_url_check(bad[i], error, sizeof error), -EINVAL);
        assert_true(strlen(error) > 0);
        assert_null(strstr(error, "secret"));
    }
}

static void a_message_becomes_one_line(void **state) {
    (void)state;
    char line[16];
    database_message("one\n\tadvice\ntwo\n", line, sizeof line);
    assert_string_equal(line, "one; two");
    database_message("longer than there is room for", line, sizeof line);
    assert_string_equal(line, "longer than the");
    database_message("fourteen bytes\xc3\xa4", line, sizeof line);
    assert_string_equal(line, "fourteen bytes");
    database_message("thirteen byte\xc3\xa4", line, sizeof line);
    assert_string_equal(line, "thirteen byte\xc3\xa4");
    database_message(NULL, line, sizeof line);
    assert_string_equal(line, "");
}

/* The program refuses a schema that is older than its statements; that number must be the newest file's. */
static void the_number_of_the_newest_migration_is_known(void **state) {
    (void)state;
    glob_t files;
    assert_int_equal(glob("sql/[0-9]*.sql", 0, NULL, &files), 0);
    assert_int_equal(files.gl_pathc, STORE_MIGRATION);
    globfree(&files);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_in_network_order),
        cmocka_unit_test(arrays_are_as_array_recv_reads_them),
        cmocka_unit_test(each_error_is_the_rows_or_ours_or_the_connections),
        cmocka_unit_test(a_url_is_what_libpq_takes),
        cmocka_unit_test(a_message_becomes_one_line),
        cmocka_unit_test(the_number_of_the_newest_migration_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
