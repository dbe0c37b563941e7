/* The whole emulator. */
#include "emulator.h"

#include "stripe.h"

#include <stdio.h>

void emulator_begin(struct emulator *emulator, const json_t *keys, long session_seconds) {
    int r = pthread_mutex_init(&emulator->lock, NULL);

    if (r != 0) {
        (void)fprintf(stderr, "stripe-emulator: no mutex: %d\n", r);
        abort();
    }
    emulator->session_seconds = session_seconds;
    objects_begin(&emulator->objects);
    sessions_begin(&emulator->sessions);
    idempotency_begin(&emulator->idempotency);
    limits_reset(&emulator->limits);
    keys_begin(&emulator->keys, keys);
    calls_begin(&emulator->calls);
    counters_begin(&emulator->counters);
    timers_begin(&emulator->timers, stripe_finish, emulator);
}

void emulator_done(struct emulator *emulator) {
    timers_done(&emulator->timers);
    counters_done(&emulator->counters);
    calls_done(&emulator->calls);
    keys_done(&emulator->keys);
    faults_clear(&emulator->faults);
    idempotency_done(&emulator->idempotency);
    sessions_done(&emulator->sessions);
    objects_done(&emulator->objects);
    (void)pthread_mutex_destroy(&emulator->lock);
}

void emulator_reset(struct emulator *emulator, bool keep_data) {
    objects_reset(&emulator->objects, keep_data);
    sessions_done(&emulator->sessions);
    sessions_begin(&emulator->sessions);
    idempotency_done(&emulator->idempotency);
    idempotency_begin(&emulator->idempotency);
    faults_clear(&emulator->faults);
    limits_reset(&emulator->limits);
    keys_reset(&emulator->keys);
    calls_done(&emulator->calls);
    calls_begin(&emulator->calls);
    counters_done(&emulator->counters);
    counters_begin(&emulator->counters);
    atomic_store(&emulator->connections.peak, atomic_load(&emulator->connections.now));
    atomic_store(&emulator->connections.total, 0);
}
