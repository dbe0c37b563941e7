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

/* The labels are those of portal_requests_in_stage. */
static const char *const stage_names[STAGES] = {[STAGE_LOADING] = "loading",
                                                [STAGE_CONFIGURING] = "configuring",
                                                [STAGE_CALLING] = "calling",
                                                [STAGE_SAVING] = "saving",
                                                [STAGE_REPLYING] = "replying"};

static void put_stages(const struct page *page, const struct metrics *metrics) {
    static const char name[] = "portal_request_stage_duration_seconds";
    head(page, name, "histogram", "What each stage took of the requests that went through it.");
    for (int i = 0; i < STAGES; i++)
        put_histogram(page, name, "stage", stage_names[i], metrics_seconds_bounds, &metrics->stage_seconds[i]);
}

static void put_requests(const struct page *page, const struct metrics *metrics) {
    put_family(page, "portal_requests_total", "Requests answered and acknowledged, by outcome and code.", "outcome",
               "code", &metrics->requests);
    head(page, "portal_request_duration_seconds", "histogram", "From delivery to acknowledgement.");
    put_histogram(page, "portal_request_duration_seconds", NULL, "", metrics_seconds_bounds, &metrics->request_seconds);
    head(page, "portal_request_queue_seconds", "histogram", "From the sender's timestamp to delivery.");
    put_histogram(page, "portal_request_queue_seconds", NULL, "", metrics_seconds_bounds, &metrics->queue_seconds);
    put_stages(page, metrics);
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
    head(page, "portal_stripe_call_wait_seconds", "histogram",
         "Calls to Stripe, until a send time and a slot were free; outages included.");
    for (unsigned i = 0; i < metrics->endpoint_count; i++)
        put_histogram(page, "portal_stripe_call_wait_seconds", "endpoint", metrics->endpoints[i].name,
                      metrics_seconds_bounds, &metrics->endpoints[i].wait_seconds);
    put_family(page, "portal_stripe_retries_total", "Calls to Stripe that were not the first.", "endpoint", NULL,
               &metrics->retries);
    put_family(page, "portal_stripe_slowed_total", "Times that Stripe limited the rate.", "endpoint", NULL,
               &metrics->slowed);
    put_family(page, "portal_rate_leases_total", "Runs of send times leased from the store.", "endpoint", NULL,
               &metrics->leases);
    put_family(page, "portal_rate_tokens_leased_total", "Send times leased: the tokens of the fleet's rate limit.",
               "endpoint", NULL, &metrics->leased);
    put_family(page, "portal_rate_tokens_void_total", "Send times that were missed, or given up after a 429.",
               "endpoint", NULL, &metrics->voided);
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

/* One series for each link. */
static void put_by_link(const struct page *page, const char *name, const char *type, const char *help,
                        const double values[static METRICS_LINKS]) {
    head(page, name, type, help);
    for (int i = 0; i < METRICS_LINKS; i++) {
        put_series(page, name, "");
        put_label(page, "link", metrics_links[i]);
        put_value(page, values[i]);
    }
}

static void put_links(const struct page *page, const struct metrics *metrics, const struct portal_state *state) {
    const struct link_pause *pauses[METRICS_LINKS] = {&state->broker, &state->store, &state->stripe};
    double paused[METRICS_LINKS], times[METRICS_LINKS], seconds[METRICS_LINKS], connections[METRICS_LINKS];
    for (int i = 0; i < METRICS_LINKS; i++) {
        uint64_t since_us = pauses[i]->cause ? pauses[i]->since_us : 0;
        paused[i] = pauses[i]->cause ? 1 : 0;
        times[i] = (double)metrics->links[i].pauses;
        seconds[i] = (double)(metrics->links[i].paused_us + since_us) / 1e6;
        connections[i] = (double)metrics->links[i].connections;
    }
    put_by_link(page, "portal_paused", "gauge", "1 while a link does not serve.", paused);
    put_by_link(page, "portal_pauses_total", "counter", "Times that a link stopped serving.", times);
    put_by_link(page, "portal_paused_seconds_total", "counter", "How long a link did not serve.", seconds);
    put_by_link(page, "portal_connections_opened_total", "counter",
                "Connections opened; all but the first few are reconnects.", connections);
}

static void put_state(const struct page *page, const struct metrics *metrics, const struct portal_state *state) {
    const unsigned stages[STAGES] = {[STAGE_LOADING] = state->loading,
                                     [STAGE_CONFIGURING] = state->configuring,
                                     [STAGE_CALLING] = state->calling,
                                     [STAGE_SAVING] = state->saving,
                                     [STAGE_REPLYING] = state->replying};
    put_gauge(page, "portal_requests_in_hand", "Requests delivered and not yet acknowledged.", state->in_hand);
    head(page, "portal_requests_in_stage", "gauge", "Requests in hand, by what they wait for.");
    for (int i = 0; i < STAGES; i++) {
        put_series(page, "portal_requests_in_stage", "");
        put_label(page, "stage", stage_names[i]);
        put_count(page, stages[i]);
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
    put_links(&page, metrics, state);
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
