/* weather.c — faults: each comes at its time, to one worker or to all, and some last. */
#include <stdlib.h>

#include "world.h"

struct fault_run {
    struct world *world;
    const struct fault *fault;
    struct alarm alarm;
};

/* It goes on by itself: what waited for it is worked off at the end of this step. */
static void recover(struct alarm *alarm) {
    OWNER(alarm, struct worker, recover)->soon = true;
}

bool world_has_half(const struct world *world, enum link_id link) {
    return (link == LINK_STRIPE && world_has(world, FAULT_STRIPE_HALF)) ||
           (link == LINK_STORE && world_has(world, FAULT_STORE_FAILS) && world->scenario->seed % 2 == 0);
}

static struct worker *target_of(struct world *world, const struct fault *fault) {
    return &world->workers[fault->target % world->scenario->workers];
}

/* ---- what comes to all ---- */

static void lose_database_of_all(struct world *world) {
    for (unsigned i = 0; i < world->scenario->workers; i++)
        if (worker_runs(&world->workers[i]))
            database_lose(&world->workers[i], true);
}

static void lose_broker_of_all(struct world *world) {
    for (unsigned i = 0; i < world->scenario->workers; i++) {
        struct worker *worker = &world->workers[i];
        if (!worker_runs(worker))
            continue;
        consumer_lose(worker, true);
        if (worker_runs(worker))
            outbox_lose(worker, true);
    }
}

static void block_all(struct world *world) {
    for (unsigned i = 0; i < world->scenario->workers; i++)
        if (worker_runs(&world->workers[i]))
            broker_report(&world->workers[i], "RabbitMQ blocks publishing: low on memory");
}

static void unblock_all(struct world *world) {
    for (unsigned i = 0; i < world->scenario->workers; i++)
        if (worker_runs(&world->workers[i]))
            outbox_unblock(&world->workers[i]);
}

static void reconfigure_all(struct world *world) {
    world->features_now = !world->features_now;
    for (unsigned i = 0; i < world->scenario->workers; i++)
        worker_reconfigure(&world->workers[i]);
}

/* ---- what comes to one ---- */

static void strike(struct worker *worker, const struct fault *fault) {
    struct world *world = worker->world;
    if (!worker_runs(worker))
        return;
    switch (fault->kind) {
    case FAULT_CRASH:
        worker_crash(worker);
        break;
    case FAULT_CRASH_AT_CALL:
        worker->dies_in = fault->calls;
        worker->dies_after = fault->calls % 2 == 0;
        break;
    case FAULT_TERMINATE:
        worker_terminate(worker);
        break;
    case FAULT_STALL:
        worker->stalled_until = world->clock.now + fault->lasts;
        alarm_set(&world->clock, &worker->recover, worker->stalled_until, recover);
        break;
    case FAULT_WALL_JUMP:
        worker->wall_skew += (int64_t)(fault->lasts * 10) * (fault->calls % 2 == 0 ? 1 : -1);
        break;
    case FAULT_CONSUMER_LOST:
        consumer_lose(worker, true);
        break;
    case FAULT_PUBLISHER_LOST:
        outbox_lose(worker, true);
        break;
    case FAULT_STORE_LOST:
        database_lose(worker, true);
        break;
    default:
        break;
    }
}

static void begin(struct world *world, const struct fault *fault) {
    world->weather[fault->kind]++;
    switch (fault->kind) {
    case FAULT_BROKER_OUT:
        lose_broker_of_all(world);
        break;
    case FAULT_STORE_OUT:
        lose_database_of_all(world);
        break;
    case FAULT_BLOCKED:
        block_all(world);
        break;
    case FAULT_RECONFIGURE:
        reconfigure_all(world);
        break;
    case FAULT_CONFIGURATION_GONE:
        stripe_configuration_gone(world);
        break;
    case FAULT_TEAM_CHANGES:
        world->team_changed[fault->target % world->scenario->teams + 1]++;
        break;
    case FAULT_PRODUCT_CHANGES:
        stripe_product_changes(world, fault->target);
        break;
    default:
        strike(target_of(world, fault), fault);
        break;
    }
}

static void over(struct alarm *alarm) {
    struct fault_run *run = OWNER(alarm, struct fault_run, alarm);
    struct world *world = run->world;
    world->weather[run->fault->kind]--;
    TRACE(world, NULL, "fault: %s is over", fault_name(run->fault->kind));
    if (run->fault->kind == FAULT_BLOCKED && world->weather[FAULT_BLOCKED] == 0)
        unblock_all(world);
    for (unsigned i = 0; i < world->scenario->workers; i++)
        for (enum link_id link = LINK_BROKER; link < LINKS; link++)
            if (!world_has_half(world, link))
                world->workers[i].half_since[link] = 0;
}

static void come(struct alarm *alarm) {
    struct fault_run *run = OWNER(alarm, struct fault_run, alarm);
    struct world *world = run->world;
    TRACE(world, NULL, "fault: %s for %.1f s (%u)", fault_name(run->fault->kind), (double)run->fault->lasts / 1e6,
          run->fault->target);
    world->statistics->faults++;
    alarm_set(&world->clock, alarm, world->clock.now + run->fault->lasts, over);
    begin(world, run->fault);
}

void weather_begin(struct world *world) {
    const struct scenario *scenario = world->scenario;
    for (unsigned i = 0; i < scenario->fault_count; i++) {
        struct fault_run *run = world_alloc(world, sizeof *run);
        run->world = world;
        run->fault = &scenario->faults[i];
        if (run->fault->dropped)
            continue;
        alarm_set(&world->clock, &run->alarm, run->fault->at, come);
    }
}
