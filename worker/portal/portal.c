/* portal.c — the worker's mind as the outside sees it: what the links tell it, and its turn of the loop. */
#include "portal/portal.h"

#include <stdlib.h>
#include <string.h>

#include "portal-internal.h"

uint64_t portal_now(const struct portal *portal) {
    return portal->host.now(portal->host.self);
}

/* Time is the database's: deadlines and what is left of a session must mean the same on every host. */
uint64_t portal_database_now(const struct portal *portal) {
    if (portal->database_at == 0)
        return portal->host.wall(portal->host.self);
    return portal->database_at + (portal_now(portal) - portal->database_seen_at);
}

/* It was read some time between the question and now. Where that is long, because the worker stood still or the answer
 * was on its way, it only shows whether what was thought so far may be right. */
void portal_note_database_time(struct portal *portal, uint64_t database_now, uint64_t asked_at) {
    uint64_t now = portal_now(portal), took = now - asked_at, thought = portal_database_now(portal);
    if (took > SECOND && thought >= database_now && thought <= database_now + took)
        return;
    portal->database_at = database_now;
    portal->database_seen_at = took > SECOND ? asked_at : now;
}

void portal_tell(struct portal *portal, const struct event *event) {
    portal->host.event(portal->host.self, event);
}

/* What comes in during one turn of the loop is worked off together at its end: that is what makes the batches. */
void portal_turn_soon(struct portal *portal) {
    if (portal->turn_asked || portal->freeing)
        return;
    portal->turn_asked = true;
    portal->host.soon(portal->host.self);
}

void portal_wake(struct portal *portal) {
    portal->turn_asked = false;
    timers_run(&portal->timers, portal_now(portal));
    suspects_turn(portal);
    sharing_turn(portal);
    configurations_turn(portal);
    if (portal->draining && portal->in_hand == 0)
        configurations_let_go(portal);
    batch_flush(portal);
    calls_pump(portal);
    publish_flush(portal);

    uint64_t next = timers_next(&portal->timers);
    if (next != portal->woken_for) {
        portal->woken_for = next;
        portal->host.wake_at(portal->host.self, next);
    }
}

static void set_rules(struct portal *portal) {
    portal->rules = (struct request_rules){.reply_queues = portal->settings.reply_queues,
                                           .team_senders = portal->settings.team_senders,
                                           .deadline_seconds = portal->settings.deadline_seconds};
    portal->features_fingerprint = features_fingerprint(portal->settings.features);
}

struct portal *portal_new(const struct portal_settings *settings, const struct host *host,
                          const struct broker_link *broker, const struct store_link *store,
                          const struct stripe_link *stripe) {
    struct portal *portal = calloc(1, sizeof *portal);
    if (!portal)
        return NULL;
    portal->settings = *settings;
    portal->host = *host;
    portal->broker = *broker;
    portal->store = *store;
    portal->stripe = *stripe;
    portal->woken_for = UINT64_MAX;
    TAILQ_INIT(&portal->jobs);
    TAILQ_INIT(&portal->orphans);
    TAILQ_INIT(&portal->configurations);
    for (size_t i = 0; i < JOB_STATES; i++)
        TAILQ_INIT(&portal->queues[i]);
    portal->loads.portal = portal->saves.portal = portal;
    portal->saves.limit = BATCH_MAX;
    set_rules(portal);
    links_init(portal);
    calls_init(portal);
    return portal;
}

void portal_free(struct portal *portal) {
    if (!portal)
        return;
    portal->freeing = true;
    struct job *job;
    while ((job = TAILQ_FIRST(&portal->jobs)))
        job_destroy(job);
    configurations_free(portal);
    calls_free(portal);
    free(portal);
}

void portal_reconfigure(struct portal *portal, const struct portal_settings *settings) {
    portal->settings.features = settings->features;
    portal->settings.reply_queues = settings->reply_queues;
    portal->settings.team_senders = settings->team_senders;
    portal->settings.refused_statuses = settings->refused_statuses;
    set_rules(portal);
    configurations_reconfigured(portal);
    portal_turn_soon(portal);
}

/* ---- deliveries ---- */

void portal_deliver(struct portal *portal, struct delivery *delivery) {
    struct job *job = job_new(portal, delivery);
    if (!job) {
        portal->broker.settle(portal->broker.self, delivery, SETTLE_GIVE_BACK);
        return;
    }
    portal_turn_soon(portal);
    links_note_delivery(portal);
    suspects_admit(job);
}

/* The work that has begun at Stripe is finished and saved, so that the redelivery finds it; the rest is dropped. */
static bool is_worth_finishing(const struct job *job) {
    switch (job->state) {
    case JOB_CALLING:
    case JOB_TO_SAVE:
    case JOB_SAVING:
        return job->portal->in_hand <= 2 * job->portal->settings.concurrency;
    default:
        return false;
    }
}

void portal_deliveries_lost(struct portal *portal) {
    struct job *job = TAILQ_FIRST(&portal->jobs), *next;
    unsigned dropped = 0;
    for (; job; job = next) {
        next = TAILQ_NEXT(job, all);
        if (!job->delivery->lost || is_worth_finishing(job))
            continue;
        dropped++;
        job_give_back(job);
    }
    if (dropped > 0)
        portal_tell(portal, &(struct event){.kind = EVENT_REQUEST_DROPPED, .count = dropped, .link = "broker"});
    portal_turn_soon(portal);
}

void portal_broker_ready(struct portal *portal) {
    portal_turn_soon(portal);
}

/* ---- the end ---- */

void portal_drain(struct portal *portal) {
    portal->draining = true;
    portal->draining_since = portal_now(portal);
    links_set_intake(portal);
    links_set_hold(portal);
    portal_turn_soon(portal);
}

void portal_give_back_all(struct portal *portal) {
    struct job *job = TAILQ_FIRST(&portal->jobs), *next;
    unsigned count = portal->in_hand;
    for (; job; job = next) {
        next = TAILQ_NEXT(job, all);
        job_give_back(job);
    }
    if (count > 0)
        portal_tell(portal, &(struct event){.kind = EVENT_GIVEN_BACK, .count = count});
}

bool portal_idle(const struct portal *portal) {
    return portal->in_hand == 0 && configurations_settled(portal);
}

void portal_state(const struct portal *portal, struct portal_state *state) {
    const struct job *oldest = TAILQ_FIRST(&portal->jobs);
    uint64_t now = portal_now(portal);
    *state = (struct portal_state){
        .in_hand = portal->in_hand,
        .loading = portal->counts[JOB_TO_LOAD] + portal->counts[JOB_LOADING],
        .configuring = portal->counts[JOB_CONFIGURING],
        .calling = portal->counts[JOB_CALLING] + portal->counts[JOB_FOLLOWING],
        .saving = portal->counts[JOB_TO_SAVE] + portal->counts[JOB_SAVING],
        .replying = portal->counts[JOB_TO_PUBLISH] + portal->counts[JOB_PUBLISHING] + portal->counts[JOB_REFUSED],
        .oldest_us = oldest ? now - oldest->delivered_at : 0,
        .intake = portal->intake != INTAKE_NONE,
    };
    struct link_pause *pauses[LINKS] = {&state->broker, &state->store, &state->stripe};
    for (size_t i = 0; i < LINKS; i++) {
        const struct link_state *link = &portal->links[i];
        if (link->down)
            *pauses[i] = (struct link_pause){.cause = link->cause[0] != '\0' ? link->cause : "connecting",
                                             .since_us = now - link->since};
    }
}
