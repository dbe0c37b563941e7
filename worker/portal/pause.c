/* pause.c — outages: while a link does not serve the intake is closed, what is in hand waits, and after a while is
 * given back. Each cause is told when it comes, each minute it lasts, and when it is over. */
#include <stdio.h>
#include <string.h>

#include "portal-internal.h"

enum {
    MINUTE_US = 60 * 1000 * 1000,
    STORE_RETRY_US = 900 * 1000, /* probes at most 1 s apart */
    FLAP_US = 40 * 1000 * 1000,  /* one that falls so soon after it let a request in, and did nothing for any, was not
                                    back; longer than a call to Stripe hangs */
    PARTING_US = 1000 * 1000,    /* what a worker that is to end gives an outage to be over */
    TRIAL_US = 1000 * 1000,      /* a first request that takes longer does not keep the others waiting */
};

static const char *const link_names[LINKS] = {"broker", "store", "stripe"};

/* When the cause may be told (again): each a minute after it was, also where the link came and went meanwhile, and no
 * more of them in a minute than are remembered, lest a cause that changes with every attempt fill the log. */
static uint64_t tell_at(const struct link_state *state, uint64_t cause) {
    const struct told *oldest = &state->told[state->oldest_told], *told = oldest;
    for (size_t i = 0; i < TOLD_MAX; i++)
        if (state->told[i].cause == cause)
            told = &state->told[i];
    return told->at == 0 ? 0 : told->at + MINUTE_US;
}

static void note_told(struct link_state *state, uint64_t cause, uint64_t now) {
    struct told *told = &state->told[state->oldest_told];
    for (size_t i = 0; i < TOLD_MAX; i++)
        if (state->told[i].cause == cause)
            told = &state->told[i];
    *told = (struct told){.cause = cause, .at = now};
    for (size_t i = 0; i < TOLD_MAX; i++)
        if (state->told[i].at < state->told[state->oldest_told].at)
            state->oldest_told = i;
}

static void tell_pause(struct link_state *state, bool quiet) {
    struct portal *portal = state->portal;
    uint64_t now = portal_now(portal);
    uint64_t cause = fingerprint_of(state->cause);
    if (!quiet)
        note_told(state, cause, now);
    state->quiet = quiet;
    timers_set(&portal->timers, &state->minute, tell_at(state, cause));
    portal_tell(portal, &(struct event){.kind = EVENT_PAUSED,
                                        .link = link_names[state - portal->links],
                                        .text = state->cause,
                                        .count = portal->in_hand,
                                        .quiet = quiet,
                                        .duration_us = now - state->since});
}

static void minute_passed(struct timer *timer) {
    tell_pause((struct link_state *)((char *)timer - offsetof(struct link_state, minute)), false);
}

static bool is_any_down(const struct portal *portal) {
    for (size_t i = 0; i < LINKS; i++)
        if (portal->links[i].down)
            return true;
    return false;
}

/* What is back may yet do nothing of what requests need, Stripe make no session or the store save nothing: one at a
 * time, until one got its due. */
static enum intake wanted_intake(const struct portal *portal) {
    if (portal->draining || is_any_down(portal))
        return INTAKE_NONE;
    return portal->links[LINK_STORE].proven && portal->links[LINK_STRIPE].proven ? INTAKE_ALL : INTAKE_ONE;
}

void links_set_intake(struct portal *portal) {
    enum intake wanted = wanted_intake(portal);
    if (wanted == portal->intake)
        return;
    portal->intake = wanted;
    portal->broker.intake(portal->broker.self, wanted);
}

/* Since when something has been held: the earliest fall of what is down now. UINT64_MAX: nothing is. */
static uint64_t held_since(const struct portal *portal) {
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < LINKS; i++)
        if (portal->links[i].down && portal->links[i].held_since < first)
            first = portal->links[i].held_since;
    return first;
}

/* A request is held from when it came, or the outage. */
static uint64_t held_until(const struct job *job, uint64_t since) {
    uint64_t from = job->delivered_at > since ? job->delivered_at : since;
    return from + job->portal->settings.hold_seconds * SECOND;
}

/* A worker that is to end gives an outage no more than a moment. */
static uint64_t parting_at(const struct portal *portal, uint64_t since) {
    if (!portal->draining)
        return UINT64_MAX;
    return (portal->draining_since > since ? portal->draining_since : since) + PARTING_US;
}

/* Whether it gets no further, as it is. */
static bool is_stuck(const struct job *job) {
    const struct link_state *links = job->portal->links;
    bool answered = job->state >= JOB_TO_PUBLISH;
    bool at_stripe = job->state <= JOB_BEHIND || /* who is next, only to wait as well */
                     job->state == JOB_CONFIGURING || job->state == JOB_FOLLOWING || job->state == JOB_CALLING;
    return (answered && links[LINK_BROKER].down) || (!answered && links[LINK_STORE].down) ||
           (at_stripe && links[LINK_STRIPE].down);
}

void links_set_hold(struct portal *portal) {
    uint64_t since = held_since(portal), now = portal_now(portal);
    const struct job *oldest = TAILQ_FIRST(&portal->jobs);
    if (since == UINT64_MAX || !oldest) {
        timers_unset(&portal->timers, &portal->hold);
        return;
    }
    uint64_t until = held_until(oldest, since), parting = parting_at(portal, since);
    if (parting < until)
        until = parting;
    if (until <= now) /* some are there still: looked at again, and not put off by who asks meanwhile */
        until = portal->hold.set && portal->hold.at < now + SECOND ? portal->hold.at : now + SECOND;
    timers_set(&portal->timers, &portal->hold, until);
}

static void held_too_long(struct timer *timer) {
    struct portal *portal = (struct portal *)((char *)timer - offsetof(struct portal, hold));
    struct job *job = TAILQ_FIRST(&portal->jobs), *next;
    uint64_t since = held_since(portal), now = portal_now(portal);
    unsigned before = portal->in_hand;
    for (; job; job = next) {
        next = TAILQ_NEXT(job, all);
        if (held_until(job, since) <= now || (parting_at(portal, since) <= now && is_stuck(job)))
            job_give_back(job);
    }
    if (portal->in_hand < before)
        portal_tell(portal, &(struct event){.kind = EVENT_GIVEN_BACK, .count = before - portal->in_hand});
    links_set_hold(portal);
}

/* While one is away, nothing shows whether another is back for good. */
static void watch_unproven(struct portal *portal) {
    for (size_t i = 0; i < LINKS && portal->in_hand > 0 && !is_any_down(portal); i++) {
        struct link_state *state = &portal->links[i];
        if (!state->proven && !state->unfallen.set)
            timers_set(&portal->timers, &state->unfallen, portal_now(portal) + FLAP_US);
    }
}

void link_down(struct portal *portal, enum link_id link, const char *cause) {
    struct link_state *state = &portal->links[link];
    uint64_t now = portal_now(portal);
    bool fresh = !state->down;
    if (fresh) {
        state->since = now;
        if (state->proven)
            state->held_since = now;
        for (size_t i = 0; i < LINKS; i++)
            timers_unset(&portal->timers, &portal->links[i].unfallen);
        state->down = true;
        state->proven = false;
    }
    (void)snprintf(state->cause, sizeof state->cause, "%s", cause);
    text_make_utf8(state->cause); /* neither the journal, systemd nor JSON takes half a character */
    bool quiet = now < tell_at(state, fingerprint_of(state->cause));
    if (fresh || !quiet)
        tell_pause(state, quiet);
    links_set_hold(portal);
    links_set_intake(portal);
    portal_turn_soon(portal); /* which tells the host of the timers */
}

void link_up(struct portal *portal, enum link_id link) {
    struct link_state *state = &portal->links[link];
    if (!state->down)
        return;
    state->down = false;
    state->proven |= link == LINK_BROKER; /* the others have to show it */
    timers_unset(&portal->timers, &state->minute);
    portal_tell(portal, &(struct event){.kind = EVENT_RESUMED,
                                        .link = link_names[link],
                                        .text = state->cause,
                                        .quiet = state->quiet,
                                        .duration_us = portal_now(portal) - state->since});
    state->cause[0] = '\0';
    watch_unproven(portal);
    links_set_hold(portal);
    links_set_intake(portal);
    portal_turn_soon(portal);
}

void link_proven(struct portal *portal, enum link_id link) {
    struct link_state *state = &portal->links[link];
    if (state->down || state->proven)
        return;
    state->proven = true;
    timers_unset(&portal->timers, &state->unfallen);
    links_set_intake(portal);
    portal_turn_soon(portal);
}

void links_note_delivery(struct portal *portal) {
    watch_unproven(portal);
    if (portal->intake == INTAKE_NONE)
        links_set_hold(portal); /* it was on its way when the consumer was cancelled */
}

static void has_not_fallen(struct timer *timer) {
    const struct link_state *state = (struct link_state *)((char *)timer - offsetof(struct link_state, unfallen));
    if (state->portal->in_hand > 0) /* an idle one has shown nothing: the next request has it watched anew */
        link_proven(state->portal, (enum link_id)(state - state->portal->links));
}

/* ---- the store's errors that are no loss of the connection ---- */

void store_serves(struct portal *portal) {
    timers_unset(&portal->timers, &portal->store_retry);
    portal->store_trial = true;
    link_up(portal, LINK_STORE);
    suspects_store_up(portal);
    portal_turn_soon(portal);
}

static void trial_over(struct timer *timer) {
    struct portal *portal = (struct portal *)((char *)timer - offsetof(struct portal, trial_end));
    if (!portal->links[LINK_STORE].down)
        store_trial_passed(portal);
}

void store_trial_loaded(struct portal *portal) {
    if (portal->store_trial && !portal->trial_end.set)
        timers_set(&portal->timers, &portal->trial_end, portal_now(portal) + TRIAL_US);
}

void store_trial_passed(struct portal *portal) {
    portal->store_trial = false;
    timers_unset(&portal->timers, &portal->trial_end);
    portal_turn_soon(portal);
}

static void store_probed(struct store_task *task, enum store_status status) {
    struct portal *portal = (struct portal *)((char *)task - offsetof(struct portal, store_probe));
    portal->store_probe_underway = false;
    if (status == STORE_DONE)
        store_serves(portal);
    else
        store_failed(portal, task, status);
}

/* What failed is tried itself, if it was a load or a save: an empty query may well pass where those do not. */
static void retry_store(struct timer *timer) {
    struct portal *portal = (struct portal *)((char *)timer - offsetof(struct portal, store_retry));
    if (portal->store_probe_underway || batch_try(portal))
        return;
    portal->store_probe_underway = true;
    portal->store_probe = (struct store_task){.kind = STORE_LOAD, .done = store_probed};
    portal->store.submit(portal->store.self, &portal->store_probe);
}

void store_failed(struct portal *portal, const struct store_task *task, enum store_status status) {
    char cause[384];
    if (status == STORE_LOST)
        return; /* the link says so itself, and when it is back */
    if (status == STORE_DENIED)
        (void)snprintf(cause, sizeof cause,
                       "PostgreSQL denies what the worker needs (SQLSTATE %s): %.160s; check DATABASE_URL's role and "
                       "run portalctl migrate",
                       task->sqlstate, task->error);
    else
        (void)snprintf(cause, sizeof cause, "PostgreSQL fails (SQLSTATE %s): %.200s", task->sqlstate, task->error);
    link_down(portal, LINK_STORE, cause);
    if (!portal->store_retry.set)
        timers_set(&portal->timers, &portal->store_retry, portal_now(portal) + STORE_RETRY_US);
    portal_turn_soon(portal);
}

/* ---- what the links tell ---- */

void portal_broker_up(struct portal *portal) {
    link_up(portal, LINK_BROKER);
    portal_turn_soon(portal);
}

void portal_broker_down(struct portal *portal, const char *cause) {
    link_down(portal, LINK_BROKER, cause);
}

void portal_store_up(struct portal *portal) {
    store_serves(portal);
}

void portal_store_down(struct portal *portal, const char *cause) {
    timers_unset(&portal->timers, &portal->store_retry);
    link_down(portal, LINK_STORE, cause);
}

void portal_connected(struct portal *portal, const char *link) {
    portal_tell(portal, &(struct event){.kind = EVENT_CONNECTED, .link = link, .count = 1});
}

void links_init(struct portal *portal) {
    for (size_t i = 0; i < LINKS; i++)
        portal->links[i] = (struct link_state){
            .portal = portal, .minute.fire = minute_passed, .unfallen.fire = has_not_fallen, .proven = true};
    portal->hold.fire = held_too_long;
    portal->store_retry.fire = retry_store;
    portal->trial_end.fire = trial_over;
    /* Until they say otherwise, broker and store are not there: nothing is taken in before both are. */
    portal->links[LINK_BROKER].down = portal->links[LINK_STORE].down = true;
    for (enum link_id link = LINK_BROKER; link <= LINK_STORE; link++)
        portal->links[link].since = portal->links[link].held_since = portal_now(portal);
}
