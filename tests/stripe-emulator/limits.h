/* Rate limits, counted by calendar second, so that counters show what they did. */
#pragma once

#include "answer.h"
#include "endpoints.h"

struct limits {
    int64_t per_second;              /* of all calls; -1: none */
    int64_t per_endpoint_per_second; /* of each endpoint; -1: none */
    int64_t second;                  /* which one is counted */
    int64_t all;
    int64_t each[ENDPOINTS + 1];
};

void limits_reset(struct limits *limits);

/* Takes {"per_second": n or null, "per_endpoint_per_second": n or null}. 0 or -EINVAL. */
int limits_set(struct limits *limits, const json_t *given);

/* 0, or -EBUSY with a 429 in `answer`. What is refused is not counted, as with Stripe's token buckets. */
int limits_check(struct limits *limits, unsigned endpoint, double now, struct answer *answer);
