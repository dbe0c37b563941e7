/* errand.c — one call to Stripe, seen through: what is retried when, and who may call next. */
#include "errand.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "portal-internal.h"

enum {
    BACKOFF_FIRST_MS = 500, /* as the official SDKs: half a second, doubled, at most eight */
    BACKOFF_LAST_MS = 8000,
    TRIAL_US = 1000 * 1000, /* who goes first after an outage keeps the others waiting no longer */
    SLOW_DOWN_MS = 1000,    /* after a 429 that does not say how long */
};

static const char *const endpoint_names[ENDPOINTS] = {"sessions", "configurations", "products", "prices"};

const char *endpoint_name(enum endpoint endpoint) {
    return endpoint_names[endpoint];
}

void exchange_tell(struct portal *portal, const struct stripe_exchange *exchange) {
    if (exchange->connections > 0 && !portal->freeing)
        portal_tell(portal, &(struct event){.kind = EVENT_CONNECTED, .link = "stripe", .count = exchange->connections});
}

void exchange_cancel(struct portal *portal, struct stripe_exchange *exchange) {
    portal->stripe.cancel(portal->stripe.self, exchange);
    exchange_tell(portal, exchange);
}

static void move(struct errand *errand, struct errands *to) {
    struct calls *calls = &errand->portal->calls;
    switch (errand->state) {
    case ERRAND_IDLE:
        break;
    case ERRAND_READY:
        TAILQ_REMOVE(&calls->ready, errand, entry);
        break;
    case ERRAND_UNDERWAY:
        TAILQ_REMOVE(&calls->underway, errand, entry);
        calls->underway_count--;
        if (calls->trying == errand)
            calls->trying = NULL;
        break;
    case ERRAND_WAITING:
        TAILQ_REMOVE(&calls->waiting, errand, entry);
        timers_unset(&errand->portal->timers, &errand->timer);
        break;
    }
    errand->state = to == &calls->ready      ? ERRAND_READY
                    : to == &calls->underway ? ERRAND_UNDERWAY
                    : to == &calls->waiting  ? ERRAND_WAITING
                                             : ERRAND_IDLE;
    if (to == &calls->ready)
        errand->ready_at = portal_now(errand->portal);
    if (to)
        TAILQ_INSERT_TAIL(to, errand, entry);
}

static void become_ready(struct errand *errand) {
    move(errand, &errand->portal->calls.ready);
    portal_turn_soon(errand->portal);
}

void errand_begin(struct errand *errand) {
    assert(errand->state == ERRAND_IDLE);
    become_ready(errand);
}

void errand_clear(struct errand *errand) {
    if (!errand->portal)
        return;
    if (errand->state == ERRAND_UNDERWAY)
        exchange_cancel(errand->portal, &errand->exchange);
    move(errand, NULL);
    free(errand->path);
    free(errand->form);
    free(errand->key);
    *errand = (struct errand){0};
}

bool errand_replayed(const struct errand *errand) {
    return errand->exchange.replayed;
}

/* ---- after a failure ---- */

static void backoff_over(struct timer *timer) {
    become_ready((struct errand *)((char *)timer - offsetof(struct errand, timer)));
}

/* Exponential with full jitter, unless Stripe said when. While the link is down there is nothing to back off from. */
static void wait_and_retry(struct errand *errand, int64_t retry_after_ms) {
    struct portal *portal = errand->portal;
    if (portal->links[LINK_STRIPE].down) {
        move(errand, &portal->calls.ready);
        return;
    }
    uint64_t longest = BACKOFF_FIRST_MS;
    for (unsigned i = 1; i < errand->attempts && longest < BACKOFF_LAST_MS; i++)
        longest *= 2;
    if (longest > BACKOFF_LAST_MS)
        longest = BACKOFF_LAST_MS;
    uint64_t random = portal->host.random(portal->host.self);
    uint64_t wait_us =
        retry_after_ms >= 0 ? (uint64_t)retry_after_ms * 1000 + random % 100000 : random % (longest * 1000 + 1);
    move(errand, &portal->calls.waiting);
    errand->timer.fire = backoff_over;
    timers_set(&portal->timers, &errand->timer, portal_now(portal) + wait_us);
}

static void fail(struct errand *errand, const struct refusal *refusal, bool counts) {
    errand->counted += counts;
    errand->served_before = errand->portal->calls.served;
    if (errand->counted > errand->portal->settings.stripe_max_retries)
        errand->done(errand, ERRAND_SPENT, NULL, refusal);
    else
        wait_and_retry(errand, errand->exchange.retry_after_ms);
}

void errand_retry(struct errand *errand, const struct refusal *refusal) {
    struct portal *portal = errand->portal;
    assert(errand->state == ERRAND_IDLE);
    portal_tell(portal, &(struct event){.kind = EVENT_STRIPE_MISBEHAVED,
                                        .text = refusal->message,
                                        .link = endpoint_name(errand->endpoint),
                                        .stripe_request_id = refusal->request_id,
                                        .status = refusal->status});
    fail(errand, refusal, true); /* Stripe is at work; its owner may end with it */
    portal_turn_soon(portal);
}

/* The maximum counts only where Stripe served others since it last failed: an outage for all is waited out, not given
 * up. That somebody else of the fleet is just calling under the same key is no failure at all: the answer will be there
 * in a moment. */
static bool counts(const struct errand *errand, const struct refusal *refusal) {
    bool in_use = strcmp(refusal->code, "idempotency_key_in_use") == 0;
    return !in_use && errand->portal->calls.served > errand->served_before;
}

/* ---- the exchange ---- */

static void tell_call(const struct errand *errand, const struct refusal *refusal) {
    struct portal *portal = errand->portal;
    portal_tell(portal, &(struct event){.kind = EVENT_STRIPE_CALL,
                                        .link = endpoint_name(errand->endpoint),
                                        .code = refusal->code,
                                        .text = refusal->message,
                                        .stripe_request_id = refusal->request_id,
                                        .status = refusal->status,
                                        .count = errand->attempts,
                                        .duration_us = portal_now(portal) - errand->started_at,
                                        .queued_us = errand->started_at - errand->ready_at});
    exchange_tell(portal, &errand->exchange);
    if (refusal->misbehaved)
        portal_tell(portal, &(struct event){.kind = EVENT_STRIPE_MISBEHAVED,
                                            .text = refusal->message,
                                            .link = endpoint_name(errand->endpoint),
                                            .stripe_request_id = refusal->request_id,
                                            .status = refusal->status});
}

static void ended(struct stripe_exchange *exchange) {
    struct errand *errand = (struct errand *)((char *)exchange - offsetof(struct errand, exchange));
    struct portal *portal = errand->portal;
    struct refusal refusal;
    json_t *answer;
    enum verdict verdict = verdict_of(exchange, &answer, &refusal);
    tell_call(errand, &refusal);
    move(errand, NULL);
    portal_turn_soon(portal);

    switch (verdict) {
    case VERDICT_DONE:
        health_served(portal, errand->endpoint);
        errand->done(errand, ERRAND_DONE, answer, &refusal);
        break;
    case VERDICT_REFUSED:
        health_served(portal, errand->endpoint);
        errand->done(errand, ERRAND_REFUSED, NULL, &refusal);
        break;
    case VERDICT_USED_UP:
        if (exchange->status < 500) /* a failure that Stripe remembers says nothing of how it is now */
            health_answered(portal, errand->endpoint);
        errand->done(errand, ERRAND_USED_UP, NULL, &refusal);
        break;
    case VERDICT_DENIED:
        health_failed(portal, &refusal, true);
        move(errand, &portal->calls.ready);
        break;
    case VERDICT_SLOW:
        health_answered(portal, errand->endpoint);
        if (exchange->retry_after_ms < 0)
            exchange->retry_after_ms = SLOW_DOWN_MS;
        limits_slow_down(portal, errand->endpoint, (uint64_t)exchange->retry_after_ms * 1000);
        wait_and_retry(errand, exchange->retry_after_ms);
        break;
    case VERDICT_RETRY:
        if (exchange->status == 409)
            health_answered(portal, errand->endpoint);
        else
            health_failed(portal, &refusal, false);
        fail(errand, &refusal, counts(errand, &refusal));
        break;
    }
    json_decref(answer);
}

void errand_start(struct errand *errand) {
    struct portal *portal = errand->portal;
    move(errand, &portal->calls.underway);
    portal->calls.underway_count++;
    if (!portal->links[LINK_STRIPE].proven)
        portal->calls.trying = errand;
    if (errand->attempts++ == 0)
        errand->served_before = portal->calls.served;
    errand->started_at = portal_now(portal);
    errand->exchange = (struct stripe_exchange){.post = errand->post,
                                                .path = errand->path,
                                                .form = errand->form,
                                                .idempotency_key = errand->key,
                                                .should_retry = -1,
                                                .retry_after_ms = -1,
                                                .done = ended};
    health_watch(portal);
    portal->stripe.start(portal->stripe.self, &errand->exchange);
}

void errands_restart(struct portal *portal, uint64_t older_us) {
    struct errand *errand = TAILQ_FIRST(&portal->calls.underway), *next;
    uint64_t now = portal_now(portal);
    for (; errand; errand = next) {
        next = TAILQ_NEXT(errand, entry);
        if (now - errand->started_at < older_us)
            continue;
        exchange_cancel(portal, &errand->exchange);
        become_ready(errand);
    }
}

/* ---- who is next ---- */

/* No team takes more than a quarter of the slots while others wait. */
static bool takes_too_much(const struct portal *portal, const struct errand *errand) {
    unsigned quarter = portal->settings.stripe_concurrency / 4;
    unsigned taken = 0;
    const struct errand *other;
    if (errand->team_id == 0 || portal->calls.underway_count < quarter)
        return false;
    TAILQ_FOREACH(other, &portal->calls.underway, entry)
    taken += other->team_id == errand->team_id;
    return taken >= quarter && taken > 0;
}

/* The first in line that has a send time and whose team has not too much; if all have, the first with a send time. */
static struct errand *pick(struct portal *portal) {
    struct calls *calls = &portal->calls;
    struct errand *errand, *greedy = NULL;
    unsigned waiting[ENDPOINTS] = {0};
    bool refused[ENDPOINTS] = {false};
    int64_t greedy_team = 0;

    if (portal->settings.stripe_rate_limit > 0)
        TAILQ_FOREACH(errand, &calls->ready, entry)
    waiting[errand->endpoint]++;
    TAILQ_FOREACH(errand, &calls->ready, entry) {
        if (refused[errand->endpoint])
            continue;
        if (errand->team_id != 0 && errand->team_id == greedy_team)
            continue;
        if (takes_too_much(portal, errand)) {
            greedy_team = errand->team_id;
            greedy = greedy ? greedy : errand;
            continue;
        }
        if (limits_take(portal, errand->endpoint, waiting[errand->endpoint]))
            return errand;
        refused[errand->endpoint] = true;
    }
    if (greedy && !refused[greedy->endpoint] && limits_take(portal, greedy->endpoint, waiting[greedy->endpoint]))
        return greedy;
    return NULL;
}

void calls_pump(struct portal *portal) {
    struct calls *calls = &portal->calls;
    const struct link_state *link = &portal->links[LINK_STRIPE];
    struct errand *errand;
    if (link->down) {
        if (health_takes_errand(portal))
            errand_start(TAILQ_FIRST(&calls->ready));
        return;
    }
    while (!TAILQ_EMPTY(&calls->ready) && calls->underway_count < portal->settings.stripe_concurrency) {
        if (!link->proven && calls->trying && portal_now(portal) - calls->trying->started_at < TRIAL_US) {
            limits_wake_at(portal, calls->trying->started_at + TRIAL_US);
            break;
        }
        errand = pick(portal);
        if (!errand)
            break;
        errand_start(errand);
    }
}

static void send_time_came(struct timer *timer) {
    struct calls *calls = (struct calls *)((char *)timer - offsetof(struct calls, due));
    portal_turn_soon(calls->buckets[0].portal);
}

void calls_init(struct portal *portal) {
    struct calls *calls = &portal->calls;
    TAILQ_INIT(&calls->ready);
    TAILQ_INIT(&calls->underway);
    TAILQ_INIT(&calls->waiting);
    calls->due.fire = send_time_came;
    for (size_t i = 0; i < ENDPOINTS; i++)
        calls->buckets[i].portal = portal;
    health_init(portal);
}

void calls_free(struct portal *portal) {
    if (portal->calls.probe_underway)
        exchange_cancel(portal, &portal->calls.probe);
}
