/* worker.c — a simulated worker: the real portal behind simulated links, from start to drain or crash. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portal/event.h"
#include "world.h"

enum {
    DRAIN_US = 20 * 1000 * 1000, /* then what is in hand is given back */
    LAST_US = 3 * 1000 * 1000,   /* and then it ends in any case */
    LOOK_US = 50 * 1000,         /* how often a draining worker is looked at */
    MONOTONIC_BEGINS = 1000 * 1000 * 1000,
};

bool worker_runs(const struct worker *worker) {
    return worker->portal && !worker->dead;
}

bool worker_defers(struct worker *worker, struct alarm *alarm) {
    if (worker->stalled_until <= worker->world->clock.now)
        return false;
    alarm_set(&worker->world->clock, alarm, worker->stalled_until, alarm->ring);
    return true;
}

bool worker_call_begins(struct worker *worker) {
    if (worker->dead)
        return true;
    if (worker->dies_in == 0 || --worker->dies_in > 0)
        return false;
    if (worker->dies_after) {
        worker->dies_in = UINT32_MAX; /* worker_call_ends() sees to it */
        return false;
    }
    worker->dead = true;
    return true;
}

void worker_call_ends(struct worker *worker) {
    if (worker->dies_in == UINT32_MAX)
        worker->dead = true;
}

/* ---- the host ---- */

static uint64_t host_now(void *self) {
    const struct worker *worker = self;
    return MONOTONIC_BEGINS + worker->world->clock.now - worker->booted_at;
}

static uint64_t host_wall(void *self) {
    const struct worker *worker = self;
    return world_wall(worker->world) + (uint64_t)worker->wall_skew;
}

static uint64_t host_random(void *self) {
    struct worker *worker = self;
    return chance_next(&worker->chance);
}

static void wake(struct alarm *alarm) {
    struct worker *worker = OWNER(alarm, struct worker, wake);
    if (!worker_defers(worker, alarm))
        worker->soon = true;
}

static void host_wake_at(void *self, uint64_t monotonic) {
    struct worker *worker = self;
    struct clock *clock = &worker->world->clock;
    if (worker->dead)
        return;
    if (monotonic == UINT64_MAX) {
        alarm_unset(clock, &worker->wake);
        return;
    }
    alarm_set(clock, &worker->wake, monotonic + worker->booted_at - MONOTONIC_BEGINS, wake);
}

static void host_soon(void *self) {
    struct worker *worker = self;
    worker->soon = true;
}

static bool tells(const struct event *event, enum event_kind kind, const char *link) {
    return event->kind == kind && event->link && strcmp(event->link, link) == 0;
}

static void note_half(struct worker *worker, const struct event *event) {
    static const char *const names[LINKS] = {"broker", "store", "stripe"};
    for (enum link_id link = LINK_BROKER; link < LINKS; link++)
        if (tells(event, EVENT_PAUSED, names[link]) && worker->half_since[link] == 0 &&
            world_has_half(worker->world, link))
            worker->half_since[link] = host_now(worker);
    /* on its way since before */
    if (tells(event, EVENT_STRIPE_CALL, "sessions") && event->status == 200)
        worker->half_since[LINK_STRIPE] = 0;
    if (tells(event, EVENT_BATCH, "save"))
        worker->half_since[LINK_STORE] = 0;
}

static void host_event(void *self, const struct event *event) {
    struct worker *worker = self;
    worker->world->statistics->events[event->kind]++;
    promise_told(worker->world, NULL, event->text);
    note_half(worker, event);
    TRACE(worker->world, NULL, "%s says: %s %s %s %s %s %u", worker->name, trace_event_name(event->kind),
          event->request_id ? event->request_id : "", event->link ? event->link : "", event->code ? event->code : "",
          event->text ? event->text : "", event->count);
}

/* The linker puts this in front of the core's: whoever parses a poisonous message crashes. */
int __real_request_read(const struct delivery *delivery, const struct request_rules *rules, uint64_t now,
                        struct request *request, struct request_problem *problem);
int __wrap_request_read(const struct delivery *delivery, const struct request_rules *rules, uint64_t now,
                        struct request *request, struct request_problem *problem);
int __wrap_request_read(const struct delivery *delivery, const struct request_rules *rules, uint64_t now,
                        struct request *request, struct request_problem *problem) {
    const struct handed *handed = OWNER(delivery, const struct handed, delivery);
    struct message *message = handed->parcel->message;
    struct worker *worker = handed->parcel->worker;
    if (!message->plan->poisonous || delivery->oversized || worker->dead)
        return __real_request_read(delivery, rules, now, request, problem);
    TRACE(worker->world, message, "%s crashes on it", worker->name);
    message->crashes++;
    worker->dead = true;
    *request = (struct request){0};
    return -ENOMEM;
}

/* ---- turns ---- */

static void bury(struct worker *worker);

void worker_turn(struct worker *worker) {
    while (worker->soon && worker_runs(worker) && worker->stalled_until <= worker->world->clock.now &&
           !worker->world->violated) {
        worker->soon = false;
        promise_turn(worker);
        portal_wake(worker->portal);
    }
    if (worker->portal && worker->dead)
        bury(worker);
}

/* ---- the end ---- */

static void restart(struct alarm *alarm) {
    worker_start(OWNER(alarm, struct worker, restart));
}

/* A try that stays in portal.suspects counts as a crash of what it was made for. */
static void note_tries(const struct worker *worker) {
    const struct job *job;
    TAILQ_FOREACH(job, &worker->portal->jobs, all)
    if (job->tried || job->suspect_task.done)
        OWNER(job->delivery, struct handed, delivery)->parcel->message->crashes_alone++;
}

static void leave_world(struct worker *worker) {
    struct clock *clock = &worker->world->clock;
    note_tries(worker);
    worker->dead = true;
    portal_free(worker->portal);
    worker->portal = NULL;
    worker->soon = false;
    outbox_lose(worker, false);
    database_lose(worker, false);
    stripe_drop_all(worker);
    consumer_end(worker);
    alarm_unset(clock, &worker->wake);
    alarm_unset(clock, &worker->end);
    alarm_unset(clock, &worker->recover);
}

static void bury(struct worker *worker) {
    struct world *world = worker->world;
    TRACE(world, NULL, "%s has crashed", worker->name);
    world->statistics->crashes++;
    leave_world(worker);
    alarm_set(&world->clock, &worker->restart,
              world->clock.now + chance_between(&world->chance, SECOND_US / 10, 5 * SECOND_US), restart);
}

void worker_crash(struct worker *worker) {
    if (worker->portal)
        bury(worker);
}

void worker_stop(struct worker *worker) {
    if (worker->portal)
        leave_world(worker);
    alarm_unset(&worker->world->clock, &worker->restart);
}

static void end(struct worker *worker) {
    struct world *world = worker->world;
    TRACE(world, NULL, "%s ends, with %u in hand", worker->name, worker->portal->in_hand);
    worker->ending = true; /* what it has settled is told before the connection is closed */
    leave_world(worker);
    alarm_set(&world->clock, &worker->restart,
              world->clock.now + chance_between(&world->chance, SECOND_US / 10, 5 * SECOND_US), restart);
}

static void look_at_drain(struct alarm *alarm) {
    struct worker *worker = OWNER(alarm, struct worker, end);
    struct world *world = worker->world;
    uint64_t now = world->clock.now;
    if (worker_defers(worker, alarm))
        return;
    if (portal_idle(worker->portal) || now >= worker->told_to_end_at + DRAIN_US + LAST_US) {
        end(worker);
        return;
    }
    if (now >= worker->told_to_end_at + DRAIN_US && !worker->gave_back) {
        worker->gave_back = true;
        portal_give_back_all(worker->portal);
    }
    alarm_set(&world->clock, alarm, now + LOOK_US, look_at_drain);
}

void worker_terminate(struct worker *worker) {
    if (!worker_runs(worker) || worker->draining)
        return;
    TRACE(worker->world, NULL, "%s is told to end", worker->name);
    worker->draining = true;
    worker->told_to_end_at = worker->world->clock.now;
    portal_drain(worker->portal);
    alarm_set(&worker->world->clock, &worker->end, worker->world->clock.now, look_at_drain);
}

/* ---- the beginning ---- */

void worker_reconfigure(struct worker *worker) {
    if (!worker_runs(worker))
        return;
    worker->settings.features = worker->world->features[worker->world->features_now];
    portal_reconfigure(worker->portal, &worker->settings);
}

void worker_start(struct worker *worker) {
    struct world *world = worker->world;
    unsigned index = worker->index, incarnation = worker->incarnation + 1;
    struct chance chance = worker->chance;
    *worker = (struct worker){.world = world, .index = index, .incarnation = incarnation, .chance = chance};
    (void)snprintf(worker->name, sizeof worker->name, "w%u.%u", index, incarnation);
    worker->booted_at = world->clock.now;
    worker->wall_skew = (int64_t)chance_below(&world->chance, 4000000) - 2000000;
    if (worker->wall_skew % 4 == 0)
        worker->wall_skew *= 3600; /* by hours: nobody has set this clock yet */
    worker->settings = world->scenario->settings;
    worker->settings.worker = worker->name;
    worker->settings.features = world->features[world->features_now];
    const struct host host = {.self = worker,
                              .now = host_now,
                              .wall = host_wall,
                              .random = host_random,
                              .wake_at = host_wake_at,
                              .soon = host_soon,
                              .event = host_event};
    const struct broker_link broker = {.self = worker,
                                       .publish = outbox_publish,
                                       .abandon = outbox_abandon,
                                       .settle = queue_settle,
                                       .intake = queue_intake};
    const struct store_link store = {.self = worker, .submit = database_submit};
    const struct stripe_link stripe = {.self = worker, .start = stripe_start, .cancel = stripe_cancel};
    TAILQ_INIT(&worker->calls);
    consumer_begin(worker);
    outbox_begin(worker);
    database_begin(worker);
    worker->portal = portal_new(&worker->settings, &host, &broker, &store, &stripe);
    if (!worker->portal)
        abort();
    TRACE(world, NULL, "%s starts", worker->name);
}
