/* Rate limits, counted by calendar second. */
#include "limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void limits_reset(struct limits *limits) {
    *limits = (struct limits){.per_second = -1, .per_endpoint_per_second = -1};
}

static int limits_read(const json_t *given, const char *name, int64_t *limit) {
    const json_t *value = json_object_get(given, name);

    if (value && !json_is_null(value) && (!json_is_integer(value) || json_integer_value(value) < 0)) {
        return -EINVAL;
    }
    *limit = json_is_integer(value) ? json_integer_value(value) : -1;
    return 0;
}

int limits_set(struct limits *limits, const json_t *given) {
    struct limits changed = *limits;

    if (!json_is_object(given) || limits_read(given, "per_second", &changed.per_second) < 0 ||
        limits_read(given, "per_endpoint_per_second", &changed.per_endpoint_per_second) < 0) {
        return -EINVAL;
    }
    *limits = changed;
    return 0;
}

int limits_check(struct limits *limits, unsigned endpoint, double now, struct answer *answer) {
    const char *reason = NULL;

    if (limits->second != (int64_t)now) {
        limits->second = (int64_t)now;
        limits->all = 0;
        memset(limits->each, 0, sizeof limits->each);
    }
    if (limits->per_second >= 0 && limits->all >= limits->per_second) {
        reason = "global-rate";
    } else if (limits->per_endpoint_per_second >= 0 && limits->each[endpoint] >= limits->per_endpoint_per_second) {
        reason = "endpoint-rate";
    }
    if (!reason) {
        limits->all++;
        limits->each[endpoint]++;
        return 0;
    }
    answer_error(answer, 429, "invalid_request_error", "rate_limit", NULL, "%s",
                 answer->livemode ? "Request rate limit exceeded. You can learn more about rate limits here "
                                    "https://stripe.com/docs/rate-limits."
                                  : "Testmode request rate limit exceeded, the rate limits in testmode are lower than "
                                    "livemode. You can learn more about rate limits here "
                                    "https://stripe.com/docs/rate-limits.");
    (void)snprintf(answer->rate_limited_reason, sizeof answer->rate_limited_reason, "%s", reason);
    return -EBUSY;
}
