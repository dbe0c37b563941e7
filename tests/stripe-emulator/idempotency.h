/* Idempotency keys: what each was used for, and what it was answered. */
#pragma once

#include "answer.h"

enum {
    IDEMPOTENCY_SECONDS = 24 * 3600,           /* keys are kept, docs.stripe.com/api/idempotent_requests */
    IDEMPOTENCY_KEPT = 250000,                 /* and no more of them than this, */
    IDEMPOTENCY_BYTES_MAX = 512 * 1024 * 1024, /* and this of their texts; the oldest go first */
    IDEMPOTENCY_BUCKETS = 1 << 17,
};

struct idempotency_entry;

struct idempotency {
    struct idempotency_entry **buckets;
    struct idempotency_entry *oldest;
    struct idempotency_entry *newest;
    size_t count;
    size_t bytes;
};

void idempotency_begin(struct idempotency *keys);
void idempotency_done(struct idempotency *keys);

/* Looks a key up before its request runs. `fingerprint` is "POST /path\n" and the parameters. 0: it is new, is held as
 * running until idempotency_save. -EEXIST: `answer` holds the saved answer. -EBUSY: a request with it still runs;
 * -EINVAL: it was used for something else; `answer` holds the error. */
int idempotency_claim(struct idempotency *keys, const char *key, const char *fingerprint, double now,
                      struct answer *answer);

/* Saves the answer under a claimed key. A key that is not there any more is left alone. */
void idempotency_save(struct idempotency *keys, const char *key, const struct answer *answer);
