/* world.c — a simulated world from its beginning to its end. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK = 32 * 1024 };
#define PATIENCE_US (UINT64_C(7200) * SECOND_US) /* how long the last request may take once all trouble is over */
#define QUIET_US (130 * SECOND_US)               /* then nothing may be left */

/* ---- memory that lives as long as the world ---- */

struct arena {
    struct arena *next;
    size_t used;
    _Alignas(16) char bytes[ARENA_BLOCK];
};

void *world_alloc(struct world *world, size_t size) {
    struct arena *arena = world->arena;
    size = (size + 15) & ~(size_t)15;
    if (size > ARENA_BLOCK)
        abort();
    if (!arena || arena->used + size > ARENA_BLOCK) {
        arena = malloc(sizeof *arena);
        if (!arena)
            abort();
        arena->next = world->arena;
        arena->used = 0;
        world->arena = arena;
    }
    void *memory = arena->bytes + arena->used;
    arena->used += size;
    return memset(memory, 0, size);
}

static void arena_free(struct world *world) {
    struct arena *arena;
    while ((arena = world->arena)) {
        world->arena = arena->next;
        free(arena);
    }
}

/* ---- beginning ---- */

static void send_next(struct alarm *alarm);

static void wait_for_next(struct world *world) {
    while (world->next_sending < world->scenario->sending_count &&
           world->scenario->sendings[world->next_sending].dropped)
        world->next_sending++;
    if (world->next_sending < world->scenario->sending_count)
        alarm_set(&world->clock, &world->send, world->scenario->sendings[world->next_sending].at, send_next);
}

static void send_next(struct alarm *alarm) {
    struct world *world = OWNER(alarm, struct world, send);
    struct message *message = &world->messages[world->next_sending++];
    world->statistics->messages++;
    wait_for_next(world);
    queue_publish(world, message);
}

static void note_requests(struct world *world) {
    const struct scenario *scenario = world->scenario;
    const struct sending **first = calloc(scenario->ids > 0 ? scenario->ids : 1, sizeof *first);
    if (!first)
        abort();
    for (unsigned i = 0; i < scenario->sending_count; i++) {
        const struct sending *plan = &scenario->sendings[i];
        world->messages[i].plan = plan;
        world->messages[i].index = i;
        if (plan->dropped)
            continue;
        world->requests[plan->id].bad |= plan->bad;
        if (!first[plan->id])
            first[plan->id] = plan;
        world->requests[plan->id].mixed |= first[plan->id]->fresh != plan->fresh;
        if (!ask_equal(&first[plan->id]->ask, &plan->ask))
            world->requests[plan->id].contested = true;
    }
    free(first);
}

static void make_features(struct world *world) {
    json_t *other = json_pack("{s:{s:s}}", "business_profile", "headline", "Another headline");
    if (features_new(NULL, "", &world->features[0], stderr) < 0 ||
        features_new(other, "other", &world->features[1], stderr) < 0)
        abort();
    json_decref(other);
}

static void world_begin(struct world *world, const struct scenario *scenario, struct statistics *statistics) {
    uint64_t seed = scenario->seed;
    *world = (struct world){.scenario = scenario, .statistics = statistics, .about = -1};
    world->chance = chance_fork(seed, 2);
    world->broker_chance = chance_fork(seed, 3);
    world->database_chance = chance_fork(seed, 4);
    world->stripe_chance = chance_fork(seed, 5);
    TAILQ_INIT(&world->queue);
    TAILQ_INIT(&world->ghosts);
    TAILQ_INIT(&world->late);
    TAILQ_INIT(&world->orphans);
    world->messages = calloc(scenario->sending_count + 1, sizeof *world->messages);
    world->requests = calloc(scenario->ids + 1, sizeof *world->requests);
    if (!world->messages || !world->requests)
        abort();
    make_features(world);
    note_requests(world);
    tables_new(world);
    stripe_new(world);
    for (unsigned i = 0; i < scenario->workers; i++) {
        world->workers[i].world = world;
        world->workers[i].index = i;
        world->workers[i].chance = chance_fork(seed, 10 + i);
    }
}

/* ---- going on ---- */

static void step(struct world *world) {
    for (unsigned i = 0; i < world->scenario->workers; i++)
        worker_turn(&world->workers[i]);
    promise_step(world);
    world->statistics->steps++;
}

static unsigned count_sendings(const struct scenario *scenario) {
    unsigned count = 0;
    for (unsigned i = 0; i < scenario->sending_count; i++)
        count += !scenario->sendings[i].dropped;
    return count;
}

static bool is_calm(const struct world *world) {
    for (size_t i = 0; i < FAULT_KINDS; i++)
        if (world->weather[i] > 0)
            return false;
    for (unsigned i = 0; i < world->scenario->workers; i++)
        if (!worker_runs(&world->workers[i]) || world->workers[i].draining)
            return false;
    return true;
}

static void go_on(struct world *world) {
    const struct scenario *scenario = world->scenario;
    unsigned sendings = count_sendings(scenario);
    uint64_t last = scenario->ends_at, quiet_until = UINT64_MAX;
    for (unsigned i = 0; i < scenario->fault_count; i++)
        if (!scenario->faults[i].dropped && scenario->faults[i].at + scenario->faults[i].lasts > last)
            last = scenario->faults[i].at + scenario->faults[i].lasts;
    while (!world->violated && world->clock.now < quiet_until) {
        if (!clock_step(&world->clock))
            break;
        step(world);
        if (quiet_until == UINT64_MAX && world->clock.now > last && world->done_messages == sendings && is_calm(world))
            quiet_until = world->clock.now + QUIET_US;
        if (world->clock.now > last + PATIENCE_US)
            break;
    }
    if (!world->violated)
        promise_end(world);
}

/* ---- the end ---- */

static void free_ghosts(struct world *world) {
    struct outgoing *outgoing;
    struct statement *statement;
    while ((outgoing = TAILQ_FIRST(&world->ghosts))) {
        TAILQ_REMOVE(&world->ghosts, outgoing, entry);
        free(outgoing);
    }
    while ((statement = TAILQ_FIRST(&world->late))) {
        TAILQ_REMOVE(&world->late, statement, entry);
        statement_free(statement);
    }
}

static void world_end(struct world *world) {
    for (unsigned i = 0; i < world->scenario->workers; i++)
        worker_stop(&world->workers[i]);
    free_ghosts(world);
    stripe_free(world);
    tables_free(world);
    features_free(world->features[0]);
    features_free(world->features[1]);
    clock_free(&world->clock);
    arena_free(world);
    trace_free(world);
    free(world->messages);
    free(world->requests);
}

void world_run(const struct scenario *scenario, enum tracing tracing, struct statistics *statistics,
               struct outcome_of_world *outcome) {
    struct world *world = malloc(sizeof *world);
    if (!world)
        abort();
    world_begin(world, scenario, statistics);
    if (tracing != TRACING_NONE)
        trace_new(world);
    statistics->worlds++;
    for (unsigned i = 0; i < scenario->workers; i++)
        worker_start(&world->workers[i]);
    weather_begin(world);
    wait_for_next(world);
    go_on(world);
    *outcome = (struct outcome_of_world){.violated = world->violated, .promise = world->promise};
    (void)snprintf(outcome->explanation, sizeof outcome->explanation, "%s", world->explanation);
    if (tracing != TRACING_NONE && world->violated)
        trace_print(world, tracing == TRACING_ALL);
    world_end(world);
    free(world);
}
