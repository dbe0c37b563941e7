/* The whole emulator: what Stripe would know, and what the tests want to know. */
#pragma once

#include "calls.h"
#include "counters.h"
#include "faults.h"
#include "idempotency.h"
#include "keys.h"
#include "limits.h"
#include "objects.h"
#include "sessions.h"
#include "timers.h"

#include <pthread.h>

struct emulator {
    pthread_mutex_t lock; /* of all up to `counters` */
    struct objects objects;
    struct sessions sessions;
    struct idempotency idempotency;
    struct faults faults;
    struct limits limits;
    struct keys keys;
    struct calls calls;
    struct counters counters;
    struct connection_counters connections; /* atomic */
    struct timers timers;                   /* have a lock of their own */
    long session_seconds;                   /* how long a portal URL works; fixed at the start */
};

/* `keys` are the accepted API keys, NULL: all that look like one. It stays the caller's. The emulator is large: 2 MiB.
 */
void emulator_begin(struct emulator *emulator, const json_t *keys, long session_seconds);
void emulator_done(struct emulator *emulator);

/* Forgets all that happened; with `keep_data`, not what was merged as data. */
void emulator_reset(struct emulator *emulator, bool keep_data);
