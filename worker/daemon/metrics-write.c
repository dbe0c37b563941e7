/* metrics-write.c — writes the metrics in Prometheus' text format (version 0.0.4), all at once or not at all. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metrics-private.h"

/* Where it goes, and the label that every series has: several workers of one host have their files in one folder, and
 * the same series in two of them would be an error. */
struct page {
    FILE *file;
    const char *worker;
    int worker_length;
};

/* The name of a file without folder and ending is what no other file in its folder has. */
static struct page page_of(FILE *file, const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t length = strlen(name);
    if (length > 5 && strcmp(name + length - 5, ".prom") == 0)
        length -= 5;
    return (struct page){.file = file, .worker = name, .worker_length = (int)length};
}

static void head(const struct page *page, const char *name, const char *type, const char *help) {
    (void)fprintf(page->file, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* `name="value"` with what the format wants escaped. */
static void put_text(FILE *file, const char *name, const char *value, int length) {
    (void)fprintf(file, "%s=\"", name);
    for (; length > 0; value++, length--) {
        if (*value == '\\' || *value == '"')
            (void)fprintf(file, "\\%c", *value);
        else if (*value == '\n')
            (void)fputs("\\n", file);
        else
            (void)putc(*value, file);
    }
    (void)putc('"', file);
}

/* The beginning of a line, up to the labels; put_value() ends it. */
static void put_series(const struct page *page, const char *name, const char *suffix) {
    (void)fprintf(page->file, "%s%s{", name, suffix);
    put_text(page->file, "worker", page->worker, page->worker_length);
}

static void put_label(const struct page *page, const char *name, const char *value) {
    (void)putc(',', page->file);
    put_text(page->file, name, value, (int)strlen(value));
}

static void put_value(const struct page *page, double value) {
    (void)fprintf(page->file, "} %.16g\n", value);
}

static void put_count(const struct page *page, uint64_t value) {
    (void)fprintf(page->file, "} %" PRIu64 "\n", value);
}

static void put_family(const struct page *page, const char *name, const char *help, const char *first,
                       const char *second, const struct family *family) {
    head(page, name, "counter", help);
    for (unsigned i = 0; i < family->count; i++) {
        const struct series *series = &family->series[i];
        put_series(page, name, "");
        put_label(page, first, series->first);
        if (second)
            put_label(page, second, series->second);
        put_count(page, series->value);
    }
}

static void put_counter(const struct page *page, const char *name, const char *help, uint64_t value) {
    head(page, name, "counter", help);
    put_series(page, name, "");
    put_count(page, value);
}

static void put_gauge(const struct page *page, const char *name, const char *help, double value) {
    head(page, name, "gauge", help);
    put_series(page, name, "");
    put_value(page, value);
}

/* The series of one histogram; `label` NULL: without a label. */
static void put_histogram(const struct page *page, const char *name, const char *label, const char *value,
                          const double *bounds, const struct histogram *histogram) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < BUCKETS_MAX; i++) {
        char bound[32] = "+Inf";
        sum += histogram->buckets[i];
        if (i < BUCKETS_MAX - 1)
            (void)snprintf(bound, sizeof bound, "%g", bounds[i]);
        put_series(page, name, "_bucket");
        if (label)
            put_label(page, label, value);
        put_label(page, "le", bound);
        put_count(page, sum);
    }
    put_series(page, name, "_sum");
    if (label)
        put_label(page, label, value);
    put_value(page, histogram->sum);
    put_series(page, name, "_count");
    if (label)
        put_label(page, label, value);
    put_count(page, histogram->count);
}

static void put_requests(const struct page *page, const struct metrics *metrics) {
    put_family(page, "portal_requests_total", "Requests answered and acknowledged, by outcome and code.", "outcome",
               "code", &metrics->requests);
    head(page, "portal_request_duration_seconds", "histogram", "From delivery to acknowledgement.");
    put_histogram(page, "portal_request_duration_seconds", NULL, "", metrics_seconds_bounds, &metrics->request_seconds);
    head(page, "portal_request_queue_seconds", "histogram", "From the sender's timestamp to delivery.");
    put_histogram(page, "portal_request_queue_seconds", NULL, "", metrics_seconds_bounds, &metrics->queue_seconds);
    put_family(page, "portal_dead_letters_total", "Requests put into portal.dead, by reason.", "reason", NULL,
               &metrics->dead_letters);
    put_counter(page, "portal_replies_returned_total", "Replies that no queue took.", metrics->returned);
    put_counter(page, "portal_requests_dropped_total", "Requests in hand whose channel was lost.", metrics->dropped);
    put_counter(page, "portal_requests_given_back_total", "Requests given back to the queue.", metrics->given_back);
    put_counter(page, "portal_suspects_total", "Requests worked alone because they came back often.",
                metrics->suspects);
}

static void put_stripe(const struct page *page, const struct metrics *metrics) {
    put_family(page, "portal_stripe_calls_total", "Calls to Stripe, by endpoint and status (none: no answer).",
               "endpoint", "status", &metrics->stripe_calls);
    head(page, "portal_stripe_call_duration_seconds", "histogram", "Calls to Stripe.");
    for (unsigned i = 0; i < metrics->endpoint_count; i++)
        put_histogram(page, "portal_stripe_call_duration_seconds", "endpoint", metrics->endpoints[i].name,
                      metrics_seconds_bounds, &metrics->endpoints[i].seconds);
    put_family(page, "portal_stripe_retries_total", "Calls to Stripe that were not the first.", "endpoint", NULL,
               &metrics->retries);
    put_family(page, "portal_stripe_slowed_total", "Times that Stripe limited the rate.", "endpoint", NULL,
               &metrics->slowed);
    put_family(page, "portal_stripe_misbehaved_total", "Answers that are not what Stripe's API promises.", "endpoint",
               NULL, &metrics->misbehaved);
    put_family(page, "portal_configurations_total",
               "Portal configurations created, updated, forgotten, or refused by Stripe.", "event", NULL,
               &metrics->configurations);
}

static void put_batches(const struct page *page, const struct metrics *metrics) {
    static const char *const names[BATCH_KINDS] = {[BATCH_LOAD] = "load", [BATCH_SAVE] = "save"};
    head(page, "portal_batch_rows", "histogram", "Rows in one statement of the store.");
    for (int i = 0; i < BATCH_KINDS; i++)
        put_histogram(page, "portal_batch_rows", "kind", names[i], metrics_rows_bounds, &metrics->batches[i].rows);
    head(page, "portal_batch_duration_seconds", "histogram", "One statement of the store.");
    for (int i = 0; i < BATCH_KINDS; i++)
        put_histogram(page, "portal_batch_duration_seconds", "kind", names[i], metrics_seconds_bounds,
                      &metrics->batches[i].seconds);
}

static void put_pauses(const struct page *page, const struct metrics *metrics, const struct portal_state *state) {
    const struct {
        const char *name;
        const struct link_pause *pause;
    } links[] = {{"broker", &state->broker}, {"store", &state->store}, {"stripe", &state->stripe}};
    head(page, "portal_paused", "gauge", "1 while a link does not serve.");
    for (size_t i = 0; i < 3; i++) {
        put_series(page, "portal_paused", "");
        put_label(page, "link", links[i].name);
        put_count(page, links[i].pause->cause ? 1 : 0);
    }
    put_family(page, "portal_pauses_total", "Times that a link stopped serving.", "link", NULL, &metrics->pauses);

    head(page, "portal_paused_seconds_total", "counter", "How long a link did not serve.");
    for (size_t i = 0; i < 3; i++) {
        uint64_t us = links[i].pause->cause ? links[i].pause->since_us : 0;
        for (unsigned j = 0; j < metrics->paused_us.count; j++)
            if (strcmp(metrics->paused_us.series[j].first, links[i].name) == 0)
                us += metrics->paused_us.series[j].value;
        put_series(page, "portal_paused_seconds_total", "");
        put_label(page, "link", links[i].name);
        put_value(page, (double)us / 1e6);
    }
}

static void put_state(const struct page *page, const struct metrics *metrics, const struct portal_state *state) {
    const struct {
        const char *name;
        unsigned value;
    } stages[] = {{"loading", state->loading},
                  {"configuring", state->configuring},
                  {"calling", state->calling},
                  {"saving", state->saving},
                  {"replying", state->replying}};
    put_gauge(page, "portal_requests_in_hand", "Requests delivered and not yet acknowledged.", state->in_hand);
    head(page, "portal_requests_in_stage", "gauge", "Requests in hand, by what they wait for.");
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        put_series(page, "portal_requests_in_stage", "");
        put_label(page, "stage", stages[i].name);
        put_count(page, stages[i].value);
    }
    put_gauge(page, "portal_oldest_request_seconds", "How long the oldest request has been in hand.",
              (double)state->oldest_us / 1e6);
    put_gauge(page, "portal_intake_open", "1 while requests are taken in.", state->intake ? 1 : 0);
    put_gauge(page, "portal_start_time_seconds", "When the worker started, since 1970.", (double)metrics->started);
    head(page, "portal_build_info", "gauge", "Always 1.");
    put_series(page, "portal_build_info", "");
    put_label(page, "version", PORTAL_VERSION);
    put_label(page, "process", metrics->worker);
    put_count(page, 1);
}

int metrics_write(const struct metrics *metrics, const struct portal_state *state, const char *path) {
    assert(metrics);
    assert(state);
    assert(path);

    char *beside = NULL;
    if (asprintf(&beside, "%s.%d.new", path, (int)getpid()) < 0)
        return -ENOMEM;
    FILE *file = fopen(beside, "we");
    if (!file) {
        int r = -errno;
        free(beside);
        return r;
    }
    const struct page page = page_of(file, path);
    put_requests(&page, metrics);
    put_stripe(&page, metrics);
    put_batches(&page, metrics);
    put_pauses(&page, metrics, state);
    put_state(&page, metrics, state);

    int r = ferror(file) ? -EIO : 0;
    if (fchmod(fileno(file), 0644) < 0 && r == 0) /* the exporter is another user */
        r = -errno;
    if (fclose(file) != 0 && r == 0)
        r = -errno;
    if (r == 0 && rename(beside, path) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(beside);
    free(beside);
    return r;
}
