/* test_report.c — what the daemon makes of the core's events: counters, the status, Prometheus' text. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../worker/daemon/report.h"
#include "done.h"
#include "portal/features.h"

enum { TEXT_MAX = 256 * 1024 };

/* ---- counters ---- */

static void recent_outcomes_are_forgotten(void **state) {
    (void)state;
    struct metrics *metrics = metrics_new("w");
    assert_non_null(metrics);
    const uint64_t second = 1000000;
    struct event failed = {.kind = EVENT_REQUEST_DONE, .outcome = "failed", .code = "x", .status = 500};
    metrics_event(metrics, &done, 1000 * second);
    metrics_event(metrics, &done, 1050 * second);
    metrics_event(metrics, &failed, 1059 * second);
    struct metrics_recent minute = metrics_recent(metrics, 1059 * second, 60);
    assert_int_equal(minute.created, 2);
    assert_int_equal(minute.failed, 1);
    minute = metrics_recent(metrics, 1060 * second, 60);
    assert_int_equal(minute.created, 1);
    struct metrics_recent all = metrics_recent(metrics, 1299 * second, METRICS_RECENT_SECONDS);
    assert_int_equal(all.created, 2);
    all = metrics_recent(metrics, 9000 * second, METRICS_RECENT_SECONDS);
    assert_int_equal(all.created + all.failed, 0);
    metrics_free(metrics);
}

static void recent_calls_are_counted_for_each_endpoint(void **state) {
    (void)state;
    struct metrics *metrics = metrics_new("w");
    assert_non_null(metrics);
    const uint64_t second = 1000000;
    const struct event sessions = {.kind = EVENT_STRIPE_CALL, .link = "sessions", .status = 200, .count = 1};
    const struct event prices = {.kind = EVENT_STRIPE_CALL, .link = "prices", .status = 200, .count = 1};
    uint64_t calls = 7;
    assert_null(metrics_recent_calls(metrics, 0, 10, 0, &calls));
    metrics_event(metrics, &sessions, 1000 * second);
    metrics_event(metrics, &sessions, 1009 * second);
    metrics_event(metrics, &prices, 1009 * second);
    metrics_event(metrics, &done, 1009 * second);
    assert_string_equal(metrics_recent_calls(metrics, 1009 * second, 10, 0, &calls), "sessions");
    assert_int_equal(calls, 2);
    (void)metrics_recent_calls(metrics, 1010 * second, 10, 0, &calls);
    assert_int_equal(calls, 1);
    assert_string_equal(metrics_recent_calls(metrics, 1010 * second, 10, 1, &calls), "prices");
    assert_int_equal(calls, 1);
    assert_null(metrics_recent_calls(metrics, 1010 * second, 10, 2, &calls));
    metrics_free(metrics);
}

static char *written(const struct metrics *metrics, const struct portal_state *state, const char *path) {
    assert_int_equal(metrics_write(metrics, state, path), 0);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, TEXT_MAX);
    assert_non_null(text);
    assert_true(fread(text, 1, TEXT_MAX - 1, file) > 0);
    (void)fclose(file);
    return text;
}

static void metrics_are_written_as_prometheus_text(void **state) {
    (void)state;
    char folder[] = "/tmp/metrics-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/portal.prom", folder);
    struct metrics *metrics = metrics_new("host:1:\"2\"");
    assert_non_null(metrics);
    metrics_event(metrics, &done, 1);
    metrics_event(metrics, &done, 1);
    const struct event events[] = {
        {.kind = EVENT_STRIPE_CALL,
         .link = "sessions",
         .status = 200,
         .count = 1,
         .duration_us = 200000,
         .queued_us = 40000},
        {.kind = EVENT_STRIPE_CALL, .link = "sessions", .count = 2, .duration_us = 90000000},
        {.kind = EVENT_PAUSED, .link = "store"},
        {.kind = EVENT_PAUSED, .link = "store", .text = "another cause", .duration_us = 5000},
        {.kind = EVENT_PAUSED, .link = "store", .duration_us = 60000000},
        {.kind = EVENT_PAUSED, .link = "stripe"},
        {.kind = EVENT_RESUMED, .link = "store", .duration_us = 65000000},
        {.kind = EVENT_DEAD_LETTER, .code = "invalid_request"},
        {.kind = EVENT_GIVEN_BACK, .count = 5},
        {.kind = EVENT_BATCH, .link = "save", .count = 8, .duration_us = 1500},
        {.kind = EVENT_CONNECTED, .link = "broker", .count = 1},
        {.kind = EVENT_CONNECTED, .link = "broker", .count = 1},
        {.kind = EVENT_CONNECTED, .link = "unheard of", .count = 1},
        {.kind = EVENT_TOKENS, .link = "sessions", .code = "leased", .count = 12},
        {.kind = EVENT_TOKENS, .link = "sessions", .code = "leased", .count = 5},
        {.kind = EVENT_TOKENS, .link = "sessions", .code = "void", .count = 3},
    };
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        metrics_event(metrics, &events[i], 1);
    struct portal_state now = {.in_hand = 3, .calling = 2, .stripe = {.cause = "down", .since_us = 2500000}};
    char *text = written(metrics, &now, path);
    static const char *const lines[] = {
        "portal_requests_total{worker=\"portal\",outcome=\"created\",code=\"\"} 2\n",
        "portal_request_duration_seconds_bucket{worker=\"portal\",le=\"0.01\"} 0\n",
        "portal_request_duration_seconds_bucket{worker=\"portal\",le=\"0.025\"} 2\n",
        "portal_request_duration_seconds_bucket{worker=\"portal\",le=\"+Inf\"} 2\n",
        "portal_request_duration_seconds_count{worker=\"portal\"} 2\n",
        "portal_request_stage_duration_seconds_bucket{worker=\"portal\",stage=\"calling\",le=\"0.005\"} 0\n",
        "portal_request_stage_duration_seconds_bucket{worker=\"portal\",stage=\"calling\",le=\"0.01\"} 2\n",
        "portal_request_stage_duration_seconds_count{worker=\"portal\",stage=\"loading\"} 2\n",
        "portal_request_stage_duration_seconds_count{worker=\"portal\",stage=\"saving\"} 0\n",
        "portal_stripe_calls_total{worker=\"portal\",endpoint=\"sessions\",status=\"200\"} 1\n",
        "portal_stripe_call_wait_seconds_bucket{worker=\"portal\",endpoint=\"sessions\",le=\"0.025\"} 1\n",
        "portal_stripe_call_wait_seconds_bucket{worker=\"portal\",endpoint=\"sessions\",le=\"0.05\"} 2\n",
        "portal_stripe_calls_total{worker=\"portal\",endpoint=\"sessions\",status=\"none\"} 1\n",
        "portal_stripe_call_duration_seconds_bucket{worker=\"portal\",endpoint=\"sessions\",le=\"60\"} 1\n",
        "portal_stripe_call_duration_seconds_bucket{worker=\"portal\",endpoint=\"sessions\",le=\"+Inf\"} 2\n",
        "portal_stripe_retries_total{worker=\"portal\",endpoint=\"sessions\"} 1\n",
        "portal_pauses_total{worker=\"portal\",link=\"store\"} 1\n",
        "portal_pauses_total{worker=\"portal\",link=\"stripe\"} 1\n",
        "portal_pauses_total{worker=\"portal\",link=\"broker\"} 0\n",
        "portal_connections_opened_total{worker=\"portal\",link=\"broker\"} 2\n",
        "portal_connections_opened_total{worker=\"portal\",link=\"store\"} 0\n",
        "portal_rate_leases_total{worker=\"portal\",endpoint=\"sessions\"} 2\n",
        "portal_rate_tokens_leased_total{worker=\"portal\",endpoint=\"sessions\"} 17\n",
        "portal_rate_tokens_void_total{worker=\"portal\",endpoint=\"sessions\"} 3\n",
        "portal_paused_seconds_total{worker=\"portal\",link=\"store\"} 65\n",
        "portal_paused_seconds_total{worker=\"portal\",link=\"stripe\"} 2.5\n",
        "portal_paused{worker=\"portal\",link=\"stripe\"} 1\n",
        "portal_paused{worker=\"portal\",link=\"store\"} 0\n",
        "portal_dead_letters_total{worker=\"portal\",reason=\"invalid_request\"} 1\n",
        "portal_requests_given_back_total{worker=\"portal\"} 5\n",
        "portal_batch_rows_bucket{worker=\"portal\",kind=\"save\",le=\"8\"} 1\n",
        "portal_requests_in_hand{worker=\"portal\"} 3\n",
        "portal_requests_in_stage{worker=\"portal\",stage=\"calling\"} 2\n",
        "process=\"host:1:\\\"2\\\"\"} 1\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(text, lines[i]))
            fail_msg("no %s in:\n%s", lines[i], text);
    free(text);
    metrics_free(metrics);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0); /* nothing is left beside it */
}

static void each_event_has_its_counter(void **state) {
    (void)state;
    char path[] = "/tmp/metrics-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    static const struct event events[] = {
        {.kind = EVENT_REQUEST_DONE},
        {.kind = EVENT_REQUEST_DONE, .outcome = "reused"},
        {.kind = EVENT_REQUEST_DONE, .outcome = "redirect", .code = "no_subscription"},
        {.kind = EVENT_REQUEST_DROPPED, .count = 3},
        {.kind = EVENT_REPLY_RETURNED},
        {.kind = EVENT_STRIPE_CALL, .status = 200, .count = 1},
        {.kind = EVENT_SLOWED, .link = "prices"},
        {.kind = EVENT_STRIPE_MISBEHAVED, .link = "products"},
        {.kind = EVENT_SUSPECT},
        {.kind = EVENT_CONFIGURATION, .text = "created"},
        {.kind = EVENT_CONFIGURATION, .text = "updated"},
        {.kind = EVENT_CONFIGURATION, .text = "updated"},
        {.kind = EVENT_CONFIGURATION, .text = "it is not active"},
        {.kind = EVENT_CONFIGURATION, .text = "it does not take these features", .status = 400},
        {.kind = EVENT_CONFIGURATION},
        {.kind = EVENT_BATCH, .link = "load", .count = 2000},
        {.kind = EVENT_BATCH},
        {.kind = EVENT_PAUSED},
    };
    static const char *const lines[] = {
        "portal_requests_total{worker=\"W\",outcome=\"none\",code=\"\"} 1\n",
        "portal_requests_total{worker=\"W\",outcome=\"reused\",code=\"\"} 1\n",
        "portal_requests_total{worker=\"W\",outcome=\"redirect\",code=\"no_subscription\"} 1\n",
        "portal_requests_dropped_total{worker=\"W\"} 3\n",
        "portal_replies_returned_total{worker=\"W\"} 1\n",
        "portal_stripe_calls_total{worker=\"W\",endpoint=\"other\",status=\"200\"} 1\n",
        "portal_stripe_slowed_total{worker=\"W\",endpoint=\"prices\"} 1\n",
        "portal_stripe_misbehaved_total{worker=\"W\",endpoint=\"products\"} 1\n",
        "portal_suspects_total{worker=\"W\"} 1\n",
        "portal_configurations_total{worker=\"W\",event=\"created\"} 1\n",
        "portal_configurations_total{worker=\"W\",event=\"updated\"} 2\n",
        "portal_configurations_total{worker=\"W\",event=\"forgotten\"} 2\n",
        "portal_configurations_total{worker=\"W\",event=\"refused\"} 1\n",
        "portal_batch_rows_bucket{worker=\"W\",kind=\"load\",le=\"1024\"} 1\n",
        "portal_batch_rows_bucket{worker=\"W\",kind=\"load\",le=\"+Inf\"} 2\n",
        "portal_pauses_total{worker=\"W\",link=\"store\"} 0\n",
    };
    struct metrics *metrics = metrics_new("w");
    assert_non_null(metrics);
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        metrics_event(metrics, &events[i], 1);
    struct metrics_recent recent = metrics_recent(metrics, 1, 1);
    assert_int_equal(recent.reused, 1);
    assert_int_equal(recent.redirect, 1);
    const struct portal_state now = {0};
    char *text = written(metrics, &now, path);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char line[160];
        const char *mark = strchr(lines[i], 'W'); /* stands for the file's name */
        assert_non_null(mark);
        (void)snprintf(line, sizeof line, "%.*s%s%s", (int)(mark - lines[i]), lines[i], path + strlen("/tmp/"),
                       mark + 1);
        if (!strstr(text, line))
            fail_msg("no %s in:\n%s", line, text);
    }
    free(text);
    metrics_free(metrics);
    assert_int_equal(unlink(path), 0);
}

static void a_strange_name_of_a_file_is_escaped(void **state) {
    (void)state;
    char folder[] = "/tmp/metrics-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/a\"b\\c\nd.prom", folder);
    struct metrics *metrics = metrics_new("w");
    assert_non_null(metrics);
    const struct portal_state now = {0};
    char *text = written(metrics, &now, path);
    assert_non_null(strstr(text, "portal_suspects_total{worker=\"a\\\"b\\\\c\\nd\"} 0\n"));
    free(text);
    metrics_free(metrics);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void series_are_bounded(void **state) {
    (void)state;
    char path[] = "/tmp/metrics-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct metrics *metrics = metrics_new("w");
    assert_non_null(metrics);
    for (unsigned i = 0; i < 1000; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "name-%u", i);
        const struct event call = {.kind = EVENT_STRIPE_CALL, .link = name, .status = 200, .duration_us = 1};
        const struct event letter = {.kind = EVENT_DEAD_LETTER, .code = name};
        metrics_event(metrics, &call, 1);
        metrics_event(metrics, &letter, 1);
    }
    const struct portal_state now = {0};
    char *text = written(metrics, &now, path);
    assert_non_null(strstr(text, ",reason=\"name-62\"} 1\n"));
    assert_non_null(strstr(text, ",reason=\"other\"} 937\n"));
    assert_null(strstr(text, "name-63"));
    free(text);
    metrics_free(metrics);
    assert_int_equal(unlink(path), 0);
}

static void metrics_that_cannot_be_written_are_an_error(void **state) {
    (void)state;
    struct metrics *metrics = metrics_new("w");
    assert_non_null(metrics);
    const struct portal_state now = {0};
    assert_int_equal(metrics_write(metrics, &now, "/nowhere/at/all.prom"), -ENOENT);
    char folder[] = "/tmp/metrics-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/taken", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(metrics_write(metrics, &now, path), -EISDIR);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(folder), 0); /* nothing is left beside it */
    metrics_free(metrics);
}

/* ---- the status line ---- */

static void the_status_says_what_it_waits_for(void **state) {
    (void)state;
    struct metrics *metrics = metrics_new("w");
    assert_non_null(metrics);
    char line[512];
    struct portal_state now = {.intake = true};
    report_status_line(&now, metrics, 1000000, false, line, sizeof line);
    assert_string_equal(line, "Ready: 0 in hand, 0.0 requests/s");
    metrics_event(metrics, &done, 1000000);
    now.in_hand = 2;
    report_status_line(&now, metrics, 1000000, false, line, sizeof line);
    assert_string_equal(line, "Working: 2 in hand, 0.1 requests/s");
    now.stripe = (struct link_pause){.cause = "refused\nREADY=1", .since_us = 31000000};
    now.broker = (struct link_pause){.cause = "away", .since_us = 1000000};
    report_status_line(&now, metrics, 1000000, false, line, sizeof line);
    assert_string_equal(line, "Paused: waiting for RabbitMQ since 1 s (away), Stripe since 31 s (refused READY=1); "
                              "2 in hand, 0.1 requests/s");
    report_status_line(&now, metrics, 1000000, true, line, sizeof line);
    assert_true(strncmp(line, "Stopping: waiting for ", 22) == 0);
    metrics_free(metrics);
}

/* ---- signs of life ---- */

/* Where the core's words go that are of no interest here. */
static uint64_t host_zero(void *self) {
    (void)self;
    return 0;
}

static void host_soon(void *self) {
    (void)self;
}

static void host_event(void *self, const struct event *event) {
    (void)self;
    (void)event;
}

/* What was given to the store last, and how much in all. */
struct given {
    struct store_task *task;
    unsigned count;
};

static void give(void *self, struct store_task *task) {
    struct given *given = self;
    given->task = task;
    given->count++;
}

/* All that is due now. */
static void run(sd_event *event) {
    int r = 0;
    while ((r = sd_event_run(event, 0)) > 0)
        ;
    assert_int_equal(r, 0);
}

static void a_change_while_a_sign_of_life_is_under_way_has_one_of_its_own_at_once(void **state) {
    (void)state;
    struct features *features = NULL;
    assert_int_equal(features_load(NULL, &features, stderr), 0);
    const struct settings settings = {.portal = {.worker = "w", .account = "default", .features = features}};
    const struct host host = {.now = host_zero, .wall = host_zero, .soon = host_soon, .event = host_event};
    struct given given = {0};
    const struct store_link store = {.self = &given, .submit = give};
    struct portal *portal =
        portal_new(&settings.portal, &host, &(struct broker_link){0}, &store, &(struct stripe_link){0});
    struct metrics *metrics = metrics_new("w");
    struct log *log = log_new(0);
    struct report *report = NULL;
    sd_event *event = NULL;
    assert_true(portal && metrics && log);
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(report_new(event, &settings, metrics, log, &report), 0);
    portal_store_up(portal);
    report_start(report, portal, &store);
    run(event);
    assert_int_equal(given.count, 1);
    report_changed(report);
    run(event);
    assert_int_equal(given.count, 1); /* one after the other */
    given.task->done(given.task, STORE_DONE);
    run(event);
    assert_int_equal(given.count, 2);
    given.task->done(given.task, STORE_DONE);
    run(event);
    assert_int_equal(given.count, 2); /* nothing is new */
    report_free(report);
    portal_free(portal);
    metrics_free(metrics);
    log_free(log);
    features_free(features);
    (void)sd_event_unref(event);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recent_outcomes_are_forgotten),
        cmocka_unit_test(recent_calls_are_counted_for_each_endpoint),
        cmocka_unit_test(metrics_are_written_as_prometheus_text),
        cmocka_unit_test(each_event_has_its_counter),
        cmocka_unit_test(a_strange_name_of_a_file_is_escaped),
        cmocka_unit_test(series_are_bounded),
        cmocka_unit_test(metrics_that_cannot_be_written_are_an_error),
        cmocka_unit_test(the_status_says_what_it_waits_for),
        cmocka_unit_test(a_change_while_a_sign_of_life_is_under_way_has_one_of_its_own_at_once),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
