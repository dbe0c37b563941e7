/* metrics.c — counts. */
#include "daemon/metrics.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metrics-private.h"

const double metrics_seconds_bounds[BUCKETS_MAX - 1] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                        0.5,   1,      2.5,   5,    10,    30,   60};
const double metrics_rows_bounds[BUCKETS_MAX - 1] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024};

const char *const metrics_links[METRICS_LINKS] = {"broker", "store", "stripe"};

struct metrics *metrics_new(const char *worker) {
    assert(worker);

    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return NULL;
    metrics->worker = worker;
    metrics->started = (uint64_t)time(NULL);
    return metrics;
}

void metrics_free(struct metrics *metrics) {
    free(metrics);
}

static void label(char to[static LABEL_MAX], const char *text) {
    (void)snprintf(to, LABEL_MAX, "%s", text);
}

static void count(struct family *family, const char *first, const char *second, uint64_t amount) {
    first = first ? first : "";
    second = second ? second : "";
    unsigned i = 0;
    while (i < family->count && (strncmp(family->series[i].first, first, LABEL_MAX - 1) != 0 ||
                                 strncmp(family->series[i].second, second, LABEL_MAX - 1) != 0))
        i++;
    if (i == family->count) {
        if (family->count < SERIES_MAX)
            family->count++;
        else
            i = SERIES_MAX - 1;
        bool last = i == SERIES_MAX - 1;
        label(family->series[i].first, last ? "other" : first);
        label(family->series[i].second, last ? "other" : second);
    }
    family->series[i].value += amount;
}

static void observe(struct histogram *histogram, const double bounds[static BUCKETS_MAX - 1], double value) {
    unsigned i = 0;
    while (i < BUCKETS_MAX - 1 && value > bounds[i])
        i++;
    histogram->buckets[i]++;
    histogram->count++;
    histogram->sum += value;
}

static void observe_us(struct histogram *histogram, uint64_t microseconds) {
    observe(histogram, metrics_seconds_bounds, (double)microseconds / 1e6);
}

static struct second *this_second(struct metrics *metrics, uint64_t now) {
    uint64_t second = now / 1000000;
    struct second *recent = &metrics->recent[second % METRICS_RECENT_SECONDS];
    if (recent->second != second)
        *recent = (struct second){.second = second};
    return recent;
}

static void count_recent(struct metrics *metrics, const char *outcome, uint64_t now) {
    struct second *recent = this_second(metrics, now);
    if (strcmp(outcome, "created") == 0)
        recent->created++;
    else if (strcmp(outcome, "reused") == 0)
        recent->reused++;
    else if (strcmp(outcome, "redirect") == 0)
        recent->redirect++;
    else
        recent->failed++;
}

static void request_done(struct metrics *metrics, const struct event *event, uint64_t now) {
    const char *outcome = event->outcome ? event->outcome : "none";
    count(&metrics->requests, outcome, event->code, 1);
    count_recent(metrics, outcome, now);
    observe_us(&metrics->request_seconds, event->duration_us);
    if (event->queued_us)
        observe_us(&metrics->queue_seconds, event->queued_us);
    for (int i = 0; i < STAGES; i++)
        if (event->stage_us[i])
            observe_us(&metrics->stage_seconds[i], event->stage_us[i]);
}

static void stripe_call(struct metrics *metrics, const struct event *event, uint64_t now) {
    const char *endpoint = event->link ? event->link : "other";
    char status[16] = "none";
    if (event->status)
        (void)snprintf(status, sizeof status, "%d", event->status);
    count(&metrics->stripe_calls, endpoint, status, 1);
    if (event->count > 1)
        count(&metrics->retries, endpoint, NULL, 1);

    unsigned i = 0;
    while (i < metrics->endpoint_count && strncmp(metrics->endpoints[i].name, endpoint, LABEL_MAX - 1) != 0)
        i++;
    if (i == ENDPOINTS_MAX)
        return;
    if (i == metrics->endpoint_count) {
        label(metrics->endpoints[i].name, endpoint);
        metrics->endpoint_count++;
    }
    observe_us(&metrics->endpoints[i].wait_seconds, event->queued_us);
    observe_us(&metrics->endpoints[i].seconds, event->duration_us);
    this_second(metrics, now)->calls[i]++;
}

static void tokens(struct metrics *metrics, const struct event *event) {
    bool leased = event->code && strcmp(event->code, "leased") == 0;
    count(leased ? &metrics->leased : &metrics->voided, event->link, NULL, event->count);
    if (leased) {
        count(&metrics->leases, event->link, NULL, 1);
        count(&metrics->voided, event->link, NULL, 0); /* a series that is there from the first on can be counted up */
    }
}

static void link_event(struct metrics *metrics, const struct event *event) {
    unsigned i = 0;
    while (i < METRICS_LINKS && (!event->link || strcmp(event->link, metrics_links[i]) != 0))
        i++;
    if (i == METRICS_LINKS)
        return;
    if (event->kind == EVENT_CONNECTED)
        metrics->links[i].connections += event->count;
    else if (event->kind == EVENT_RESUMED) {
        metrics->links[i].paused = false;
        metrics->links[i].paused_us += event->duration_us;
    } else if (!metrics->links[i].paused) { /* repeated each minute, and with each new cause */
        metrics->links[i].paused = true;
        metrics->links[i].pauses++;
    }
}

/* What happened to a configuration, as one of few words. */
static const char *configuration_event(const struct event *event) {
    if (event->text && (strcmp(event->text, "created") == 0 || strcmp(event->text, "updated") == 0))
        return event->text;
    return event->status ? "refused" : "forgotten";
}

static void batch(struct metrics *metrics, const struct event *event) {
    int kind = event->link && strcmp(event->link, "save") == 0 ? BATCH_SAVE : BATCH_LOAD;
    observe(&metrics->batches[kind].rows, metrics_rows_bounds, event->count);
    observe_us(&metrics->batches[kind].seconds, event->duration_us);
}

void metrics_event(struct metrics *metrics, const struct event *event, uint64_t now) {
    assert(metrics);
    assert(event);

    switch (event->kind) {
    case EVENT_REQUEST_DONE:
        request_done(metrics, event, now);
        break;
    case EVENT_REQUEST_DROPPED:
        metrics->dropped += event->count;
        break;
    case EVENT_REPLY_RETURNED:
        metrics->returned++;
        break;
    case EVENT_DEAD_LETTER:
        count(&metrics->dead_letters, event->code, NULL, 1);
        break;
    case EVENT_STRIPE_CALL:
        stripe_call(metrics, event, now);
        break;
    case EVENT_PAUSED:
    case EVENT_RESUMED:
    case EVENT_CONNECTED:
        link_event(metrics, event);
        break;
    case EVENT_TOKENS:
        tokens(metrics, event);
        break;
    case EVENT_SLOWED:
        count(&metrics->slowed, event->link, NULL, 1);
        break;
    case EVENT_CONFIGURATION:
        count(&metrics->configurations, configuration_event(event), NULL, 1);
        break;
    case EVENT_STRIPE_MISBEHAVED:
        count(&metrics->misbehaved, event->link, NULL, 1);
        break;
    case EVENT_SUSPECT:
        metrics->suspects++;
        break;
    case EVENT_GIVEN_BACK:
        metrics->given_back += event->count;
        break;
    case EVENT_BATCH:
        batch(metrics, event);
        break;
    case EVENTS:
        break;
    }
}

static bool is_within(const struct second *recent, uint64_t now, unsigned seconds) {
    uint64_t last = now / 1000000;
    return recent->second <= last && recent->second + seconds > last;
}

struct metrics_recent metrics_recent(const struct metrics *metrics, uint64_t now, unsigned seconds) {
    assert(metrics);
    assert(seconds <= METRICS_RECENT_SECONDS);

    struct metrics_recent sum = {0};
    for (size_t i = 0; i < METRICS_RECENT_SECONDS; i++) {
        const struct second *recent = &metrics->recent[i];
        if (!is_within(recent, now, seconds))
            continue;
        sum.created += recent->created;
        sum.reused += recent->reused;
        sum.redirect += recent->redirect;
        sum.failed += recent->failed;
    }
    return sum;
}

const char *metrics_recent_calls(const struct metrics *metrics, uint64_t now, unsigned seconds, unsigned number,
                                 uint64_t *ret_calls) {
    assert(metrics && ret_calls);
    assert(seconds <= METRICS_RECENT_SECONDS);

    if (number >= metrics->endpoint_count)
        return NULL;
    *ret_calls = 0;
    for (size_t i = 0; i < METRICS_RECENT_SECONDS; i++)
        if (is_within(&metrics->recent[i], now, seconds))
            *ret_calls += metrics->recent[i].calls[number];
    return metrics->endpoints[number].name;
}
