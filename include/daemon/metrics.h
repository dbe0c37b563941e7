/* metrics.h — counts what the core tells, for Prometheus (node_exporter's textfile collector), the status line and the
 * heartbeat. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "portal/event.h"
#include "portal/portal.h"

struct metrics;

enum { METRICS_RECENT_SECONDS = 300 };

/* What became of requests within a span of time. */
struct metrics_recent {
    uint64_t created, reused, redirect, failed;
};

/* `worker`, which tells this process from any other, is borrowed. NULL without memory; freed with metrics_free(). */
struct metrics *metrics_new(const char *worker);
void metrics_free(struct metrics *metrics);

/* Counts one event; `now` is monotonic, in microseconds. */
void metrics_event(struct metrics *metrics, const struct event *event, uint64_t now);

/* The requests answered in the last `seconds`, at most METRICS_RECENT_SECONDS. */
struct metrics_recent metrics_recent(const struct metrics *metrics, uint64_t now, unsigned seconds);

/* The name of Stripe's endpoint no. `number`, from 0, and how often it was called in the last `seconds`; NULL: there
 * were calls to fewer. */
const char *metrics_recent_calls(const struct metrics *metrics, uint64_t now, unsigned seconds, unsigned number,
                                 uint64_t *ret_calls);

/* Writes everything in Prometheus' text format to a file beside `path` and puts it in its place, so that nobody reads
 * half of it. Each series has the label `worker`: the file's name without ".prom". Result: 0 or a negative errno. */
int metrics_write(const struct metrics *metrics, const struct portal_state *state, const char *path);
