/* metrics-private.h — what is counted, for the file that counts and the file that writes. */
#pragma once

#include "daemon/metrics.h"

enum { LABEL_MAX = 48, SERIES_MAX = 64, ENDPOINTS_MAX = 16, BUCKETS_MAX = 16 };

/* One number for each pair of labels. The last place takes what is too many, so that nothing a sender or Stripe says
 * can make it grow. */
struct family {
    struct series {
        char first[LABEL_MAX];
        char second[LABEL_MAX];
        uint64_t value;
    } series[SERIES_MAX];
    unsigned count;
};

struct histogram {
    uint64_t buckets[BUCKETS_MAX]; /* not yet added up; the last one is all beyond the bounds */
    uint64_t count;
    double sum;
};

enum { METRICS_LINKS = 3 };

enum { BATCH_LOAD, BATCH_SAVE, BATCH_KINDS };

struct second {
    uint64_t second; /* monotonic */
    uint32_t created, reused, redirect, failed;
    uint32_t calls[ENDPOINTS_MAX]; /* as endpoints[] below */
};

struct metrics {
    const char *worker;
    uint64_t started; /* seconds since 1970 */

    struct family requests; /* by outcome and code */
    struct histogram request_seconds;
    struct histogram queue_seconds;
    struct histogram stage_seconds[STAGES];
    struct family stripe_calls; /* by endpoint and status */
    struct family retries;      /* by endpoint, as the next */
    struct family slowed;
    struct family misbehaved;
    struct {
        char name[LABEL_MAX];
        struct histogram wait_seconds; /* before it was sent */
        struct histogram seconds;
    } endpoints[ENDPOINTS_MAX];
    unsigned endpoint_count;
    struct family leases; /* of send times, by endpoint, as the next */
    struct family leased;
    struct family voided;
    struct {
        struct histogram rows;
        struct histogram seconds;
    } batches[BATCH_KINDS];
    struct family dead_letters;   /* by reason */
    struct family configurations; /* by what happened */
    struct {
        uint64_t connections, pauses, paused_us;
        bool paused;
    } links[METRICS_LINKS]; /* by metrics_links */
    uint64_t dropped, returned, suspects, given_back;

    struct second recent[METRICS_RECENT_SECONDS];
};

extern const char *const metrics_links[METRICS_LINKS];

/* Upper bounds of the histograms of times (seconds) and of rows; both have BUCKETS_MAX - 1. */
extern const double metrics_seconds_bounds[BUCKETS_MAX - 1];
extern const double metrics_rows_bounds[BUCKETS_MAX - 1];
