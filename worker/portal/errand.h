/* errand.h — one call to Stripe, seen through: send times within the fleet's limit, slots, retries, the link's health.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "portal/links.h"
#include "portal/verdict.h"
#include "timers.h"

struct portal;

enum endpoint { ENDPOINT_SESSIONS, ENDPOINT_CONFIGURATIONS, ENDPOINT_PRODUCTS, ENDPOINT_PRICES, ENDPOINTS };

enum errand_end {
    ERRAND_DONE,    /* `answer` is a JSON object */
    ERRAND_REFUSED, /* for good, `refusal` says why */
    ERRAND_USED_UP, /* its idempotency key is: call again with the next one */
    ERRAND_SPENT,   /* retried as often as may be while Stripe served others */
};

/* Lives inside its owner, as {0} at first. The texts are the errand's, freed with errand_clear(). */
struct errand {
    struct portal *portal;
    enum endpoint endpoint;
    bool post;
    char *path, *form, *key;
    int64_t team_id; /* 0: nobody's; for fairness between teams */
    void (*done)(struct errand *errand, enum errand_end end, const json_t *answer, const struct refusal *refusal);

    enum { ERRAND_IDLE, ERRAND_READY, ERRAND_UNDERWAY, ERRAND_WAITING } state;
    TAILQ_ENTRY(errand) entry; /* in the list of its state, but for idle */
    struct timer timer;        /* of ERRAND_WAITING: the end of its backoff */
    struct stripe_exchange exchange;
    uint64_t ready_at;      /* since when it wants to be sent; microseconds, monotonic */
    uint64_t started_at;    /* of the exchange, likewise */
    uint64_t served_before; /* how many calls Stripe had served when it began, or last failed */
    unsigned attempts;      /* exchanges begun */
    unsigned counted;       /* failures while Stripe served others */
};

TAILQ_HEAD(errands, errand);

/* Sends it; `done` follows, never from inside. What it is to send may be changed while it is idle; attempts go on being
 * counted until errand_clear(). */
void errand_begin(struct errand *errand);

/* Its answer was of no use: tries the same again as after a failure, or ends it as spent. Only from inside `done`. */
void errand_retry(struct errand *errand, const struct refusal *refusal);

/* Whether the exchange that just ended was answered from Stripe's memory. */
bool errand_replayed(const struct errand *errand);

/* Stops and empties it; `done` is not called. */
void errand_clear(struct errand *errand);

/* ---- all errands of a portal ---- */

/* A run of send times leased from the store for one endpoint. */
struct bucket {
    struct portal *portal;
    struct store_task lease;
    struct store_task slow_down;
    bool leasing, slowing;
    uint64_t asked_at; /* for the lease */
    uint64_t next_at;  /* of the first one left; microseconds, monotonic */
    uint64_t spacing;
    unsigned left;
    uint64_t not_before; /* a 429 said so */
};

struct calls {
    struct errands ready, underway, waiting;
    unsigned underway_count;
    struct bucket buckets[ENDPOINTS];
    struct timer due; /* the next send time */

    /* the link's health */
    uint64_t served;       /* sessions that Stripe made or refused */
    uint64_t served_at;    /* when it last answered a call for one, if only to say "later" */
    unsigned failures;     /* since then */
    struct errand *trying; /* one call at a time, while the link is not proven */
    unsigned probes;
    bool errand_asks; /* it is a waiting request's turn to probe */
    bool probe_underway;
    struct stripe_exchange probe;
    uint64_t probed_at;
    struct timer probe_timer;
    struct timer stall_timer;
};

void calls_init(struct portal *portal);
void calls_free(struct portal *portal);

/* Starts what may start. */
void calls_pump(struct portal *portal);

const char *endpoint_name(enum endpoint endpoint);

/* ---- health.c: whether Stripe serves ---- */

void health_init(struct portal *portal);
/* It did what was asked, or refused it for good. */
void health_served(struct portal *portal, enum endpoint endpoint);
/* No answer, or one that says Stripe is unwell; `refused`: the worker's key is. */
void health_failed(struct portal *portal, const struct refusal *refusal, bool denied);
/* Stripe answered, if only to say "later". */
void health_answered(struct portal *portal, enum endpoint endpoint);
/* While the link is down: whether the next to probe is a waiting request, which takes its turn. */
bool health_takes_errand(struct portal *portal);
/* A call began: should it hang, somebody has to notice. */
void health_watch(struct portal *portal);

/* An exchange ended: tells how many connections were opened for it. */
void exchange_tell(struct portal *portal, const struct stripe_exchange *exchange);

/* Cancels one that is under way, and tells likewise. */
void exchange_cancel(struct portal *portal, struct stripe_exchange *exchange);

/* Starts one that is ready, now. */
void errand_start(struct errand *errand);

/* Begins anew what has been under way for longer than that: the connections it is on may be dead. */
void errands_restart(struct portal *portal, uint64_t older_us);

/* ---- limits.c: send times ---- */

/* Whether a call to the endpoint may be sent now; uses the send time up. Else asks for more, and sets calls.due where
 * it is only a matter of time. `waiting`: how many calls want one. */
bool limits_take(struct portal *portal, enum endpoint endpoint, unsigned waiting);

/* Looks again at that time, microseconds, monotonic, whether a call may be sent. */
void limits_wake_at(struct portal *portal, uint64_t at);

/* Stripe answered 429: nobody in the fleet calls for `wait_us`, and all call at half the rate for a while. */
void limits_slow_down(struct portal *portal, enum endpoint endpoint, uint64_t wait_us);
