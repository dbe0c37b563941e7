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

static void head(FILE *file, const char *name, const char *type, const char *help) {
    (void)fprintf(file, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* ` name="value"` with what the format wants escaped. */
static void put_label(FILE *file, const char *name, const char *value) {
    (void)fprintf(file, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            (void)fprintf(file, "\\%c", *value);
        else if (*value == '\n')
            (void)fputs("\\n", file);
        else
            (void)putc(*value, file);
    }
    (void)putc('"', file);
}

static void put_family(FILE *file, const char *name, const char *help, const char *first, const char *second,
                       const struct family *family) {
    head(file, name, "counter", help);
    for (unsigned i = 0; i < family->count; i++) {
        const struct series *series = &family->series[i];
        (void)fprintf(file, "%s{", name);
        put_label(file, first, series->first);
        if (second) {
            (void)putc(',', file);
            put_label(file, second, series->second);
        }
        (void)fprintf(file, "} %" PRIu64 "\n", series->value);
    }
}

static void put_counter(FILE *file, const char *name, const char *help, uint64_t value) {
    head(file, name, "counter", help);
    (void)fprintf(file, "%s %" PRIu64 "\n", name, value);
}

static void put_gauge(FILE *file, const char *name, const char *help, double value) {
    head(file, name, "gauge", help);
    (void)fprintf(file, "%s %.10g\n", name, value);
}

/* The series of one histogram; `label` NULL: without a label. */
static void put_histogram(FILE *file, const char *name, const char *label, const char *value, const double *bounds,
                          const struct histogram *histogram) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < BUCKETS_MAX; i++) {
        sum += histogram->buckets[i];
        (void)fprintf(file, "%s_bucket{", name);
        if (label) {
            put_label(file, label, value);
            (void)putc(',', file);
        }
        if (i < BUCKETS_MAX - 1)
            (void)fprintf(file, "le=\"%g\"} %" PRIu64 "\n", bounds[i], sum);
        else
            (void)fprintf(file, "le=\"+Inf\"} %" PRIu64 "\n", sum);
    }
    for (int i = 0; i < 2; i++) {
        (void)fprintf(file, "%s_%s", name, i == 0 ? "sum" : "count");
        if (label) {
            (void)putc('{', file);
            put_label(file, label, value);
            (void)putc('}', file);
        }
        (void)fprintf(file, " %.10g\n", i == 0 ? histogram->sum : (double)histogram->count);
    }
}

static void put_requests(FILE *file, const struct metrics *metrics) {
    put_family(file, "portal_requests_total", "Requests answered and acknowledged, by outcome and code.", "outcome",
               "code", &metrics->requests);
    head(file, "portal_request_duration_seconds", "histogram", "From delivery to acknowledgement.");
    put_histogram(file, "portal_request_duration_seconds", NULL, "", metrics_seconds_bounds, &metrics->request_seconds);
    head(file, "portal_request_queue_seconds", "histogram", "From the sender's timestamp to delivery.");
    put_histogram(file, "portal_request_queue_seconds", NULL, "", metrics_seconds_bounds, &metrics->queue_seconds);
    put_family(file, "portal_dead_letters_total", "Requests put into portal.dead, by reason.", "reason", NULL,
               &metrics->dead_letters);
    put_counter(file, "portal_replies_returned_total", "Replies that no queue took.", metrics->returned);
    put_counter(file, "portal_requests_dropped_total", "Requests in hand whose channel was lost.", metrics->dropped);
    put_counter(file, "portal_requests_given_back_total", "Requests given back to the queue.", metrics->given_back);
    put_counter(file, "portal_suspects_total", "Requests worked alone because they came back often.",
                metrics->suspects);
}

static void put_stripe(FILE *file, const struct metrics *metrics) {
    put_family(file, "portal_stripe_calls_total", "Calls to Stripe, by endpoint and status (none: no answer).",
               "endpoint", "status", &metrics->stripe_calls);
    head(file, "portal_stripe_call_duration_seconds", "histogram", "Calls to Stripe.");
    for (unsigned i = 0; i < metrics->endpoint_count; i++)
        put_histogram(file, "portal_stripe_call_duration_seconds", "endpoint", metrics->endpoints[i].name,
                      metrics_seconds_bounds, &metrics->endpoints[i].seconds);
    put_family(file, "portal_stripe_retries_total", "Calls to Stripe that were not the first.", "endpoint", NULL,
               &metrics->retries);
    put_family(file, "portal_stripe_slowed_total", "Times that Stripe limited the rate.", "endpoint", NULL,
               &metrics->slowed);
    put_family(file, "portal_stripe_misbehaved_total", "Answers that are not what Stripe's API promises.", "endpoint",
               NULL, &metrics->misbehaved);
    put_family(file, "portal_configurations_total",
               "Portal configurations created, updated, forgotten, or refused by Stripe.", "event", NULL,
               &metrics->configurations);
}

static void put_batches(FILE *file, const struct metrics *metrics) {
    static const char *const names[BATCH_KINDS] = {[BATCH_LOAD] = "load", [BATCH_SAVE] = "save"};
    head(file, "portal_batch_rows", "histogram", "Rows in one statement of the store.");
    for (int i = 0; i < BATCH_KINDS; i++)
        put_histogram(file, "portal_batch_rows", "kind", names[i], metrics_rows_bounds, &metrics->batches[i].rows);
    head(file, "portal_batch_duration_seconds", "histogram", "One statement of the store.");
    for (int i = 0; i < BATCH_KINDS; i++)
        put_histogram(file, "portal_batch_duration_seconds", "kind", names[i], metrics_seconds_bounds,
                      &metrics->batches[i].seconds);
}

static void put_pauses(FILE *file, const struct metrics *metrics, const struct portal_state *state) {
    const struct {
        const char *name;
        const struct link_pause *pause;
    } links[] = {{"broker", &state->broker}, {"store", &state->store}, {"stripe", &state->stripe}};
    head(file, "portal_paused", "gauge", "1 while a link does not serve.");
    for (size_t i = 0; i < 3; i++)
        (void)fprintf(file, "portal_paused{link=\"%s\"} %d\n", links[i].name, links[i].pause->cause ? 1 : 0);
    put_family(file, "portal_pauses_total", "Times that a link stopped serving.", "link", NULL, &metrics->pauses);

    head(file, "portal_paused_seconds_total", "counter", "How long a link did not serve.");
    for (size_t i = 0; i < 3; i++) {
        uint64_t us = links[i].pause->cause ? links[i].pause->since_us : 0;
        for (unsigned j = 0; j < metrics->paused_us.count; j++)
            if (strcmp(metrics->paused_us.series[j].first, links[i].name) == 0)
                us += metrics->paused_us.series[j].value;
        (void)fprintf(file, "portal_paused_seconds_total{link=\"%s\"} %.6f\n", links[i].name, (double)us / 1e6);
    }
}

static void put_state(FILE *file, const struct metrics *metrics, const struct portal_state *state) {
    const struct {
        const char *name;
        unsigned value;
    } stages[] = {{"loading", state->loading},
                  {"configuring", state->configuring},
                  {"calling", state->calling},
                  {"saving", state->saving},
                  {"replying", state->replying}};
    put_gauge(file, "portal_requests_in_hand", "Requests delivered and not yet acknowledged.", state->in_hand);
    head(file, "portal_requests_in_stage", "gauge", "Requests in hand, by what they wait for.");
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        (void)fprintf(file, "portal_requests_in_stage{stage=\"%s\"} %u\n", stages[i].name, stages[i].value);
    put_gauge(file, "portal_oldest_request_seconds", "How long the oldest request has been in hand.",
              (double)state->oldest_us / 1e6);
    put_gauge(file, "portal_intake_open", "1 while requests are taken in.", state->intake ? 1 : 0);
    put_gauge(file, "portal_start_time_seconds", "When the worker started, since 1970.", (double)metrics->started);
    head(file, "portal_build_info", "gauge", "Always 1.");
    (void)fprintf(file, "portal_build_info{version=\"%s\",", PORTAL_VERSION);
    put_label(file, "worker", metrics->worker);
    (void)fputs("} 1\n", file);
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
    put_requests(file, metrics);
    put_stripe(file, metrics);
    put_batches(file, metrics);
    put_pauses(file, metrics, state);
    put_state(file, metrics, state);

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
