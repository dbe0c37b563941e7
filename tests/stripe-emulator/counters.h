/* Totals to assert on. */
#pragma once

#include "endpoints.h"

#include <stdatomic.h>

enum {
    COUNTERS_STATUSES = 600,     /* HTTP statuses are below */
    COUNTERS_SECONDS = 4096,     /* the newest seconds, kept one by one */
    COUNTERS_ERROR_CODES = 1000, /* different ones */
};

struct counter_second {
    int64_t second;
    uint32_t calls[ENDPOINTS + 1];
};

struct counters {
    uint64_t calls;
    uint64_t statuses[ENDPOINTS + 1][COUNTERS_STATUSES]; /* status 0: no answer (a reset, a hang) */
    uint64_t sessions_made;
    uint64_t configurations_made;
    uint64_t configurations_updated;
    uint64_t keys;             /* idempotency keys whose answer was saved */
    uint64_t keys_with_effect; /* and which made or changed something */
    uint64_t replays;
    uint64_t refused; /* answers of 4xx that no fault made */
    uint64_t faults;
    json_t *errors; /* code -> answers, faults included */
    struct counter_second seconds[COUNTERS_SECONDS];
};

/* These are the server's, and not under the emulator's lock. */
struct connection_counters {
    atomic_long now;
    atomic_long peak;
    atomic_long total;
};

void counters_begin(struct counters *counters);
void counters_done(struct counters *counters);

/* A call came; an answer was decided on (`status` 0: none will be sent). */
void counters_arrived(struct counters *counters, unsigned endpoint, double now);
void counters_answered(struct counters *counters, unsigned endpoint, const struct answer *answer, bool by_fault);

/* All of it as the admin API shows it. The caller owns it. */
json_t *counters_show(const struct counters *counters, const struct connection_counters *connections);
