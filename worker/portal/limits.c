/* limits.c — send times: the fleet shares Stripe's rate limit by leasing runs of them from the store, for each
 * endpoint, 1/limit apart by the database's clock. None is used early; one that is missed by more than 100 ms is void.
 */
#include <stdio.h>

#include "portal-internal.h"

enum {
    LATEST_US = 100000,        /* a send time missed by more is void */
    RUN_MIN = 12,              /* a run may have this many, or a quarter of a second's worth */
    SLOW_US = 10 * 1000 * 1000 /* how long the fleet calls at half the rate after a 429 */
};

static struct bucket *bucket_of(struct portal *portal, enum endpoint endpoint) {
    return &portal->calls.buckets[endpoint];
}

static void tell_tokens(const struct bucket *bucket, const char *what, unsigned count) {
    struct portal *portal = bucket->portal;
    enum endpoint endpoint = (enum endpoint)(bucket - portal->calls.buckets);
    if (count > 0)
        portal_tell(portal, &(struct event){
                                .kind = EVENT_TOKENS, .link = endpoint_name(endpoint), .code = what, .count = count});
}

static void leased(struct store_task *task, enum store_status status) {
    struct bucket *bucket = (struct bucket *)((char *)task - offsetof(struct bucket, lease));
    bucket->leasing = false;
    if (status == STORE_DONE) {
        uint64_t now = portal_now(bucket->portal);
        /* counted from its answer, for none may be used early; from an answer that came late all would be late */
        bool in_time = now - bucket->asked_at <= SECOND;
        bucket->next_at = now + task->tokens.first_us;
        bucket->spacing = task->tokens.spacing_us;
        bucket->left = in_time ? task->tokens.wanted : 0;
        tell_tokens(bucket, "leased", task->tokens.wanted);
        tell_tokens(bucket, "void", in_time ? 0 : task->tokens.wanted);
    } else
        store_failed(bucket->portal, task, status);
    portal_turn_soon(bucket->portal);
}

static void lease(struct portal *portal, enum endpoint endpoint, unsigned waiting) {
    struct bucket *bucket = bucket_of(portal, endpoint);
    unsigned most = portal->settings.stripe_rate_limit / 4;
    if (bucket->leasing || portal->links[LINK_STORE].down)
        return;
    if (most < RUN_MIN)
        most = RUN_MIN;
    bucket->leasing = true;
    bucket->asked_at = portal_now(portal);
    bucket->lease = (struct store_task){.kind = STORE_TOKENS, .done = leased};
    bucket->lease.tokens = (struct token_run){.endpoint = endpoint_name(endpoint),
                                              .wanted = waiting < most ? waiting : most,
                                              .interval_us = SECOND / portal->settings.stripe_rate_limit};
    portal->store.submit(portal->store.self, &bucket->lease);
}

void limits_wake_at(struct portal *portal, uint64_t at) {
    if (!portal->calls.due.set || portal->calls.due.at > at)
        timers_set(&portal->timers, &portal->calls.due, at);
}

bool limits_take(struct portal *portal, enum endpoint endpoint, unsigned waiting) {
    struct bucket *bucket = bucket_of(portal, endpoint);
    uint64_t now = portal_now(portal);
    if (now < bucket->not_before) {
        limits_wake_at(portal, bucket->not_before);
        return false;
    }
    if (portal->settings.stripe_rate_limit == 0)
        return true;
    unsigned left = bucket->left;
    for (; bucket->left > 0 && now > bucket->next_at + LATEST_US; bucket->left--)
        bucket->next_at += bucket->spacing;
    tell_tokens(bucket, "void", left - bucket->left);
    if (bucket->left == 0) {
        lease(portal, endpoint, waiting);
        return false;
    }
    if (now < bucket->next_at) {
        limits_wake_at(portal, bucket->next_at);
        return false;
    }
    bucket->left--;
    bucket->next_at += bucket->spacing;
    return true;
}

static void slowed(struct store_task *task, enum store_status status) {
    struct bucket *bucket = (struct bucket *)((char *)task - offsetof(struct bucket, slow_down));
    bucket->slowing = false;
    if (status != STORE_DONE)
        store_failed(bucket->portal, task, status);
}

void limits_slow_down(struct portal *portal, enum endpoint endpoint, uint64_t wait_us) {
    struct bucket *bucket = bucket_of(portal, endpoint);
    uint64_t until = portal_now(portal) + wait_us;
    if (until > bucket->not_before)
        bucket->not_before = until;
    tell_tokens(bucket, "void", bucket->left);
    bucket->left = 0; /* they were leased at the old pace */
    if (bucket->slowing)
        return;
    char text[128];
    (void)snprintf(text, sizeof text, "Stripe answered 429: nobody calls %s for %.1f s, then at half the rate for %d s",
                   endpoint_name(endpoint), (double)wait_us / (double)SECOND, SLOW_US / 1000000);
    portal_tell(
        portal,
        &(struct event){.kind = EVENT_SLOWED, .link = endpoint_name(endpoint), .text = text, .duration_us = wait_us});
    bucket->slowing = true;
    bucket->slow_down = (struct store_task){.kind = STORE_SLOW_DOWN, .done = slowed};
    bucket->slow_down.tokens =
        (struct token_run){.endpoint = endpoint_name(endpoint), .wait_us = wait_us, .slow_us = SLOW_US};
    portal->store.submit(portal->store.self, &bucket->slow_down);
}
