/* test_log.c — what the daemon makes of the core's events for people: lines, colours, and entries of the journal. */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/log.h"
#include "daemon/messages.h"
#include "done.h"

/* ---- lines ----------------------------------------------------------------------------------------------------------
 */

static void each_event_has_its_words(void **state) {
    (void)state;
    const struct {
        struct event event;
        int level;
        const char *line;
    } cases[] = {
        {done, LOG_INFO, "request r-1: created, team 7, user 9, generation 2, 12 ms"},
        {{.kind = EVENT_REQUEST_DONE, .outcome = "failed", .code = "invalid_request", .status = 400, .text = "why"},
         LOG_INFO,
         "request without id: failed invalid_request, 0 ms: why"},
        {{.kind = EVENT_REQUEST_DONE, .request_id = "a", .outcome = "failed", .code = "internal_error", .status = 500},
         LOG_WARNING,
         "request a: failed internal_error, 0 ms"},
        {{.kind = EVENT_REQUEST_DROPPED, .count = 3},
         LOG_NOTICE,
         "3 requests in hand lost their channel; RabbitMQ delivers them again"},
        {{.kind = EVENT_REPLY_RETURNED, .request_id = "a", .text = "no queue"},
         LOG_WARNING,
         "request a: no queue took its reply, it is kept in the store: no queue"},
        {{.kind = EVENT_DEAD_LETTER, .request_id = "a", .code = "poisonous", .text = "why"},
         LOG_WARNING,
         "request a is in portal.dead: poisonous: why"},
        {{.kind = EVENT_STRIPE_CALL,
          .link = "sessions",
          .status = 429,
          .count = 2,
          .duration_us = 3000,
          .stripe_request_id = "req_1",
          .code = "rate_limit",
          .text = "slow down"},
         LOG_DEBUG,
         "Stripe sessions: 429 in 3 ms, attempt 2, req_1, rate_limit: slow down"},
        {{.kind = EVENT_STRIPE_CALL, .link = "sessions", .count = 1}, LOG_DEBUG, "Stripe sessions: no answer in 0 ms"},
        {{.kind = EVENT_PAUSED, .link = "store", .text = "refused", .count = 4},
         LOG_WARNING,
         "waiting for PostgreSQL: refused (4 in hand)"},
        {{.kind = EVENT_PAUSED, .link = "broker", .duration_us = 61000000},
         LOG_WARNING,
         "waiting for RabbitMQ since 61 s: it does not serve"},
        {{.kind = EVENT_RESUMED, .link = "stripe", .duration_us = 61500000},
         LOG_NOTICE,
         "Stripe serves again after 61.5 s"},
        {{.kind = EVENT_RESUMED, .link = "stripe", .duration_us = 5000}, LOG_NOTICE, "Stripe serves"},
        {{.kind = EVENT_SLOWED, .link = "sessions", .text = "429"},
         LOG_WARNING,
         "Stripe limits the rate of sessions, the fleet slows down: 429"},
        {{.kind = EVENT_CONFIGURATION, .configuration = "bpc_1", .text = "created"},
         LOG_NOTICE,
         "portal configuration bpc_1: created"},
        {{.kind = EVENT_STRIPE_MISBEHAVED, .link = "prices", .status = 200, .text = "no id"},
         LOG_ERR,
         "Stripe's answer is not what its API promises (prices, 200): no id"},
        {{.kind = EVENT_SUSPECT, .request_id = "a", .count = 2},
         LOG_WARNING,
         "request a came back often and is worked alone, try 2"},
        {{.kind = EVENT_GIVEN_BACK, .count = 5}, LOG_NOTICE, "5 requests were given back to the queue"},
        {{.kind = EVENT_BATCH, .link = "save", .count = 8, .duration_us = 1500}, LOG_DEBUG, "save of 8 rows in 1.5 ms"},
        {{.kind = EVENT_CONNECTED, .link = "broker", .count = 1}, LOG_DEBUG, "connected to RabbitMQ"},
        {{.kind = EVENT_TOKENS, .link = "sessions", .code = "leased", .count = 12},
         LOG_DEBUG,
         "12 send times for sessions: leased"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[LOG_LINE_MAX];
        assert_int_equal(log_describe(&cases[i].event, line, sizeof line), cases[i].level);
        assert_string_equal(line, cases[i].line);
    }
}

static void what_is_missing_is_left_out(void **state) {
    (void)state;
    static const char *const lines[EVENTS] = {
        [EVENT_REQUEST_DONE] = "request without id: done, 0 ms",
        [EVENT_REQUEST_DROPPED] = "0 requests in hand lost their channel; RabbitMQ delivers them again",
        [EVENT_REPLY_RETURNED] = "request without id: no queue took its reply, it is kept in the store: returned",
        [EVENT_DEAD_LETTER] = "request without id is in portal.dead: no reason",
        [EVENT_STRIPE_CALL] = "Stripe call: no answer in 0 ms",
        [EVENT_PAUSED] = "waiting for something: it does not serve",
        [EVENT_RESUMED] = "something serves",
        [EVENT_SLOWED] = "Stripe limits the rate of calls, the fleet slows down: 429",
        [EVENT_CONFIGURATION] = "portal configuration unknown: changed",
        [EVENT_STRIPE_MISBEHAVED] = "Stripe's answer is not what its API promises (unknown endpoint): no more is known",
        [EVENT_SUSPECT] = "request without id came back often and is worked alone",
        [EVENT_GIVEN_BACK] = "0 requests were given back to the queue",
        [EVENT_BATCH] = "batch of 0 rows in 0.0 ms",
        [EVENT_CONNECTED] = "connected to something",
        [EVENT_TOKENS] = "0 send times for calls: changed",
    };
    for (int kind = 0; kind < EVENTS; kind++) {
        char line[LOG_LINE_MAX];
        (void)log_describe(&(struct event){.kind = (enum event_kind)kind}, line, sizeof line);
        assert_string_equal(line, lines[kind]);
    }
}

static void a_long_event_is_cut(void **state) {
    (void)state;
    char text[3 * LOG_LINE_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const struct event event = {.kind = EVENT_STRIPE_CALL, .link = text, .code = text, .text = text};
    char line[100];
    (void)log_describe(&event, line, sizeof line);
    assert_int_equal(strlen(line), sizeof line - 1);
}

/* What the log writes to standard error, which is a file meanwhile. */
static void capture(char *into, size_t size, void (*act)(struct log *log), int level) {
    FILE *file = tmpfile();
    assert_non_null(file);
    int before = dup(STDERR_FILENO);
    assert_true(before >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    struct log *log = log_new(level);
    if (log)
        act(log);
    log_free(log);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(file);
    size_t length = fread(into, 1, size - 1, file);
    into[length] = '\0';
    (void)fclose(file);
}

static void write_hostile(struct log *log) {
    log_message(log, LOG_INFO, MESSAGE_STARTED, "%s", "one\ntwo\033[31m\x7f\xc2\x9b ünd");
}

static void control_characters_are_escaped(void **state) {
    (void)state;
    char text[256];
    capture(text, sizeof text, write_hostile, LOG_INFO);
    assert_string_equal(text, "one\\x0atwo\\x1b[31m\\x7f\xc2\\x9b ünd\n");
}

static void write_long(struct log *log) {
    static char text[3 * LOG_LINE_MAX];
    memset(text, '\n', sizeof text - 1);
    log_message(log, LOG_WARNING, MESSAGE_STARTED, "%s", text);
}

static void a_line_is_bounded(void **state) {
    (void)state;
    static char text[16 * LOG_LINE_MAX];
    capture(text, sizeof text, write_long, LOG_INFO);
    assert_int_equal(strlen(text), strlen("warning: \n") + strlen("\\x0a") * LOG_LINE_MAX);
}

static void write_wide(struct log *log) {
    static char text[3 * LOG_LINE_MAX];
    for (size_t i = 0; i + 3 < sizeof text; i++)
        text[i] = "€"[i % 3];
    log_message(log, LOG_INFO, MESSAGE_STARTED, "%s", text);
}

static void no_line_ends_within_a_character(void **state) {
    (void)state;
    static char text[16 * LOG_LINE_MAX];
    capture(text, sizeof text, write_wide, LOG_INFO);
    assert_int_equal(strlen(text), LOG_LINE_MAX + 1);
    assert_int_equal(strspn(text, "€"), LOG_LINE_MAX - 1); /* 1024 is one more than a multiple of three */
    assert_string_equal(text + LOG_LINE_MAX - 1, "?\n");
}

static void write_levels(struct log *log) {
    log_event(log, &done);
    log_event(log, &(struct event){.kind = EVENT_BATCH, .link = "load", .count = 1});
    log_event(log, &(struct event){.kind = EVENT_PAUSED, .link = "stripe", .text = "down"});
}

static void what_is_less_urgent_is_left_out(void **state) {
    (void)state;
    char text[512];
    capture(text, sizeof text, write_levels, LOG_WARNING);
    assert_string_equal(text, "warning: waiting for Stripe: down\n");
    capture(text, sizeof text, write_levels, LOG_DEBUG);
    assert_non_null(strstr(text, "debug: load of 1 rows"));
}

/* ---- a terminal ---- */

/* What the log writes to a terminal, without the time in front of each line, which is checked here. */
static void capture_terminal(char *into, size_t size, void (*act)(struct log *log)) {
    int master, slave;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    int before = dup(STDERR_FILENO);
    assert_true(before >= 0 && dup2(slave, STDERR_FILENO) >= 0);
    struct log *log = log_new(LOG_DEBUG);
    if (log)
        act(log);
    log_free(log);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    char text[1024] = "";
    assert_int_equal(write(slave, "end", 3), 3);
    while (!strstr(text, "end")) { /* it comes in pieces */
        size_t length = strlen(text);
        ssize_t more = read(master, text + length, sizeof text - 1 - length);
        assert_true(more > 0);
        text[length + (size_t)more] = '\0';
    }
    *strstr(text, "end") = '\0';
    close(master);
    close(slave);
    into[0] = '\0';
    char *rest = NULL;
    for (const char *line = strtok_r(text, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
        struct tm parts;
        const char *after = strptime(line, "%H:%M:%S ", &parts);
        assert_non_null(after);
        assert_int_equal(after - line, strlen("12:34:56 "));
        strncat(into, after, size - strlen(into) - 1);
        strncat(into, "\n", size - strlen(into) - 1);
    }
}

static void write_each_level(struct log *log) {
    log_message(log, LOG_ERR, MESSAGE_FAILED, "bad");
    log_message(log, LOG_WARNING, MESSAGE_PAUSED, "so-so");
    log_message(log, LOG_NOTICE, MESSAGE_STARTED, "good");
    log_event(log, &done);
    log_message(log, LOG_DEBUG, MESSAGE_BATCH, "fine print");
}

static void a_terminal_gets_short_lines_in_colours(void **state) {
    (void)state;
    char text[1024];
    unsetenv("NO_COLOR");
    unsetenv("JOURNAL_STREAM");
    capture_terminal(text, sizeof text, write_each_level);
    assert_string_equal(text, "\033[1;31mbad\033[0m\n\033[33mso-so\033[0m\ngood\n"
                              "request r-1: created, team 7, user 9, generation 2, 12 ms\n\033[2mfine print\033[0m\n");
    assert_int_equal(setenv("NO_COLOR", "1", 1), 0);
    capture_terminal(text, sizeof text, write_each_level);
    assert_string_equal(text, "bad\nso-so\ngood\n"
                              "request r-1: created, team 7, user 9, generation 2, 12 ms\nfine print\n");
    unsetenv("NO_COLOR");
}

/* ---- the journal ---- */

static char entries[8192]; /* what would have gone to the journal: a line a field, an empty one after each entry */

/* In front of libsystemd's. */
int sd_journal_sendv(const struct iovec *vectors, int count);
int sd_journal_sendv(const struct iovec *vectors, int count) {
    for (int i = 0; i <= count; i++) {
        size_t length = strlen(entries), more = i < count ? vectors[i].iov_len : 0;
        assert_true(length + more + 2 <= sizeof entries);
        if (more > 0)
            memcpy(entries + length, vectors[i].iov_base, more);
        memcpy(entries + length + more, "\n", 2);
    }
    return 0;
}

/* What the log says where standard error is, or is not, the journal's. */
static void capture_journal(void (*act)(struct log *log), int level, ino_t off) {
    FILE *file = tmpfile();
    struct stat status;
    char stream[64];
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &status), 0);
    (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)(status.st_ino + off));
    assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
    int before = dup(STDERR_FILENO);
    assert_true(before >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    struct log *log = log_new(level);
    entries[0] = '\0';
    if (log)
        act(log);
    log_free(log);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    assert_true((ftell(file) == 0) == (off == 0)); /* to the one or to the other */
    (void)fclose(file);
    unsetenv("JOURNAL_STREAM");
}

static void write_failure(struct log *log) {
    log_event(log, &(struct event){.kind = EVENT_REQUEST_DONE,
                                   .request_id = "r-1",
                                   .outcome = "failed",
                                   .code = "stripe_error",
                                   .text = "No such customer\nMESSAGE=forged",
                                   .stripe_request_id = "req_1",
                                   .configuration = "bpc_1",
                                   .team_id = 7,
                                   .user_id = 9,
                                   .generation = 2,
                                   .status = 500,
                                   .count = 3,
                                   .duration_us = 12345,
                                   .queued_us = 5000});
}

static void the_journal_gets_fields(void **state) {
    (void)state;
    capture_journal(write_failure, LOG_INFO, 0);
    assert_string_equal(entries,
                        "MESSAGE=request r-1: failed stripe_error, team 7, user 9, generation 2, 12 ms: No such "
                        "customer\\x0aMESSAGE=forged\n"
                        "PRIORITY=4\n"
                        "MESSAGE_ID=" MESSAGE_REQUEST_DONE "\n"
                        "SYSLOG_IDENTIFIER=portal-worker\n"
                        "REQUEST_ID=r-1\n"
                        "TEAM_ID=7\n"
                        "USER_ID=9\n"
                        "OUTCOME=failed\n"
                        "CODE=stripe_error\n"
                        "STATUS=500\n"
                        "STRIPE_REQUEST_ID=req_1\n"
                        "CONFIGURATION=bpc_1\n"
                        "GENERATION=2\n"
                        "COUNT=3\n"
                        "DURATION_MS=12.345\n"
                        "QUEUED_MS=5.000\n\n");
}

static void write_few_fields(struct log *log) {
    log_event(log, &(struct event){.kind = EVENT_PAUSED, .link = "stripe", .text = "down"});
    log_event(log, &(struct event){.kind = EVENT_RESUMED, .link = "stripe", .quiet = true});
    log_message(log, LOG_NOTICE, MESSAGE_STARTED, "%s", "runs");
}

static void what_is_not_known_has_no_field(void **state) {
    (void)state;
    capture_journal(write_few_fields, LOG_INFO, 0);
    assert_string_equal(entries, "MESSAGE=waiting for Stripe: down\n"
                                 "PRIORITY=4\n"
                                 "MESSAGE_ID=" MESSAGE_PAUSED "\n"
                                 "SYSLOG_IDENTIFIER=portal-worker\n"
                                 "LINK=stripe\n\n"
                                 "MESSAGE=runs\n"
                                 "PRIORITY=5\n"
                                 "MESSAGE_ID=" MESSAGE_STARTED "\n"
                                 "SYSLOG_IDENTIFIER=portal-worker\n\n");
}

static void write_every_kind(struct log *log) {
    for (int kind = 0; kind < EVENTS; kind++)
        log_event(log, &(struct event){.kind = (enum event_kind)kind});
}

static void every_kind_of_event_has_an_id(void **state) {
    (void)state;
    unsigned count = 0;
    capture_journal(write_every_kind, LOG_DEBUG, 0);
    for (const char *found = entries; (found = strstr(found, "MESSAGE_ID=")); found++) {
        assert_int_equal(strcspn(found, "\n"), strlen("MESSAGE_ID=") + 32);
        count++;
    }
    assert_int_equal(count, EVENTS);
}

static void where_standard_error_goes_elsewhere_it_is_written_there(void **state) {
    (void)state;
    capture_journal(write_few_fields, LOG_INFO, 1);
    assert_string_equal(entries, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_event_has_its_words),
        cmocka_unit_test(what_is_missing_is_left_out),
        cmocka_unit_test(a_long_event_is_cut),
        cmocka_unit_test(control_characters_are_escaped),
        cmocka_unit_test(a_line_is_bounded),
        cmocka_unit_test(no_line_ends_within_a_character),
        cmocka_unit_test(what_is_less_urgent_is_left_out),
        cmocka_unit_test(a_terminal_gets_short_lines_in_colours),
        cmocka_unit_test(the_journal_gets_fields),
        cmocka_unit_test(what_is_not_known_has_no_field),
        cmocka_unit_test(every_kind_of_event_has_an_id),
        cmocka_unit_test(where_standard_error_goes_elsewhere_it_is_written_there),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
