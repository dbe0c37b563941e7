/* health.c — whether Stripe does what requests need: sessions. Failures in a row without a success pause the intake;
 * then somebody asks once a second. A request that waits knows best, each in its turn, and one that is served opens the
 * intake. A cheap read shows only that Stripe is there: it lets one request in to try its luck, so that those in hand,
 * which may be the ones that always fail, can't keep it paused. */
#include <stdio.h>
#include <string.h>

#include "portal-internal.h"

enum {
    FAILURES_MIN = 5,           /* in a row, … */
    QUIET_US = 1000 * 1000,     /* … and nothing served for that long: it is down */
    PROBE_US = 900 * 1000,      /* between probes: at most 1 s apart */
    STALL_US = 5 * 1000 * 1000, /* nothing came back for that long: a cheap read tells */
    HUNG_US = 1700 * 1000,  /* while it is down, a probe older than that gives way to a new one: every second time */
    YOUNG_US = 1000 * 1000, /* a request that asks is given that long before a read does */
    READ_EVERY = 10,        /* of the probes, while several requests wait */
};

static void go_down(struct portal *portal, const char *cause) {
    struct calls *calls = &portal->calls;
    struct errand *errand;
    link_down(portal, LINK_STRIPE, cause);
    /* whoever backs off waits for the link instead */
    while ((errand = TAILQ_FIRST(&calls->waiting))) {
        timers_unset(&portal->timers, &errand->timer);
        errand->timer.fire(&errand->timer);
    }
    if (!calls->probe_timer.set)
        timers_set(&portal->timers, &calls->probe_timer, portal_now(portal) + PROBE_US);
}

/* It is there, which says nothing yet of sessions. */
static void come_up(struct portal *portal) {
    if (!portal->links[LINK_STRIPE].down)
        return;
    portal->calls.errand_asks = false;
    timers_unset(&portal->timers, &portal->calls.probe_timer);
    link_up(portal, LINK_STRIPE);
    errands_restart(portal, HUNG_US); /* they would keep slots, and the one that goes first */
}

void health_answered(struct portal *portal, enum endpoint endpoint) {
    if (endpoint == ENDPOINT_SESSIONS) {
        portal->calls.served_at = portal_now(portal);
        portal->calls.failures = 0;
    }
    come_up(portal);
}

void health_served(struct portal *portal, enum endpoint endpoint) {
    health_answered(portal, endpoint);
    if (endpoint != ENDPOINT_SESSIONS)
        return;
    portal->calls.served++;
    link_proven(portal, LINK_STRIPE);
}

void health_failed(struct portal *portal, const struct refusal *refusal, bool denied) {
    struct calls *calls = &portal->calls;
    char said[600], status[24] = "", cause[256];
    refusal_text(refusal, said, sizeof said);
    if (refusal->status > 0 && refusal->message[0] != '\0')
        (void)snprintf(status, sizeof status, "HTTP %d, ", refusal->status);
    if (denied)
        (void)snprintf(cause, sizeof cause, "Stripe refuses the key in STRIPE_SECRET_KEY (HTTP %d): %.180s",
                       refusal->status, said);
    else
        (void)snprintf(cause, sizeof cause, "Stripe does not serve: %s%.200s", status, said);
    calls->failures++;
    bool quiet = portal_now(portal) - calls->served_at >= QUIET_US;
    if (denied || !portal->links[LINK_STRIPE].proven || (calls->failures >= FAILURES_MIN && quiet))
        go_down(portal, cause);
}

/* ---- probes ---- */

static void probed(struct stripe_exchange *exchange) {
    struct calls *calls = (struct calls *)((char *)exchange - offsetof(struct calls, probe));
    struct portal *portal = calls->buckets[0].portal;
    struct refusal refusal;
    json_t *answer;
    calls->probe_underway = false;
    exchange_tell(portal, exchange);
    switch (verdict_of(exchange, &answer, &refusal)) {
    case VERDICT_DONE:
    case VERDICT_REFUSED:
    case VERDICT_SLOW:
    case VERDICT_USED_UP:
        come_up(portal);
        break;
    case VERDICT_DENIED:
        health_failed(portal, &refusal, true);
        break;
    case VERDICT_RETRY:
        health_failed(portal, &refusal, false);
        break;
    }
    json_decref(answer);
    portal_turn_soon(portal);
}

static void read_cheaply(struct portal *portal) {
    struct calls *calls = &portal->calls;
    uint64_t now = portal_now(portal);
    uint64_t patience = portal->links[LINK_STRIPE].down ? HUNG_US : STALL_US;
    if (calls->probe_underway && now - calls->probed_at < patience)
        return;
    if (calls->probe_underway) /* it hangs: ask anew, on another connection */
        exchange_cancel(portal, &calls->probe);
    calls->probe_underway = true;
    calls->probed_at = now;
    calls->probe = (struct stripe_exchange){
        .path = "/v1/billing_portal/configurations?limit=1", .should_retry = -1, .retry_after_ms = -1, .done = probed};
    portal->stripe.start(portal->stripe.self, &calls->probe);
}

/* The one that waits longest can be asked with, and has not just failed to get a send time. */
static bool is_turn_of_errand(const struct portal *portal) {
    const struct calls *calls = &portal->calls;
    const struct errand *errand = TAILQ_FIRST(&calls->ready);
    if (!errand || calls->trying || calls->errand_asks || calls->underway_count >= portal->settings.stripe_concurrency)
        return false;
    unsigned waiting = portal->counts[JOB_CONFIGURING] + portal->counts[JOB_FOLLOWING] + portal->counts[JOB_CALLING];
    return calls->probes % (waiting > 1 ? READ_EVERY : 2) != 0;
}

static void probe(struct timer *timer) {
    struct calls *calls = (struct calls *)((char *)timer - offsetof(struct calls, probe_timer));
    struct portal *portal = calls->buckets[0].portal;
    timers_set(&portal->timers, timer, portal_now(portal) + PROBE_US);
    if (calls->trying && portal_now(portal) - calls->trying->started_at < YOUNG_US)
        return;
    calls->probes++;
    calls->errand_asks = is_turn_of_errand(portal);
    if (calls->errand_asks)
        portal_turn_soon(portal);
    else
        read_cheaply(portal);
}

bool health_takes_errand(struct portal *portal) {
    struct calls *calls = &portal->calls;
    const struct errand *errand = TAILQ_FIRST(&calls->ready);
    if (!calls->errand_asks || !errand || !limits_take(portal, errand->endpoint, 1))
        return false;
    calls->errand_asks = false;
    return true;
}

/* ---- stalls ---- */

void health_watch(struct portal *portal) {
    struct calls *calls = &portal->calls;
    if (!calls->stall_timer.set)
        timers_set(&portal->timers, &calls->stall_timer, portal_now(portal) + STALL_US);
}

static void look_for_stall(struct timer *timer) {
    struct calls *calls = (struct calls *)((char *)timer - offsetof(struct calls, stall_timer));
    struct portal *portal = calls->buckets[0].portal;
    struct errand *oldest = TAILQ_FIRST(&calls->underway);
    if (!oldest)
        return; /* the next call watches anew */
    uint64_t now = portal_now(portal);
    uint64_t since = calls->served_at > oldest->started_at ? calls->served_at : oldest->started_at;
    timers_set(&portal->timers, timer, (now - since < STALL_US ? since : now) + STALL_US);
    if (now - since < STALL_US || portal->links[LINK_STRIPE].down)
        return;
    if (calls->probe_underway && now - calls->probed_at >= STALL_US) {
        char cause[128];
        (void)snprintf(cause, sizeof cause, "Stripe does not answer: %u calls wait, the oldest for %.0f s",
                       calls->underway_count, (double)(now - oldest->started_at) / (double)SECOND);
        go_down(portal, cause);
    } else
        read_cheaply(portal);
}

void health_init(struct portal *portal) {
    portal->calls.probe_timer.fire = probe;
    portal->calls.stall_timer.fire = look_for_stall;
    portal->calls.served_at = portal_now(portal);
}
