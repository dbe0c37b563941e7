/* database.c — each worker's connection to the database: statements in order, each a transaction of its own; and its
 * loss, before or after a commit, or with the server still at work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

static const char *const kinds[] = {
    [STORE_LOAD] = "load",
    [STORE_SAVE] = "save",
    [STORE_CONFIGURATION_FIND] = "configuration find",
    [STORE_CONFIGURATION_LEASE] = "configuration lease",
    [STORE_CONFIGURATION_KEEP] = "configuration keep",
    [STORE_CONFIGURATION_RELEASE] = "configuration release",
    [STORE_CONFIGURATION_FORGET] = "configuration forget",
    [STORE_TOKENS] = "tokens",
    [STORE_SLOW_DOWN] = "slow down",
    [STORE_SUSPECT_ADD] = "suspect add",
    [STORE_SUSPECT_REMOVE] = "suspect remove",
    [STORE_HEARTBEAT] = "heartbeat",
};

static const char *const statuses[] = {"done", "lost", "bad value", "denied", "failed"};

void statement_free(struct statement *statement) {
    for (size_t i = 0; i < statement->count; i++)
        if (statement->rows[i])
            table_row_free(statement->rows[i]);
    free(statement->rows);
    free(statement);
}

static uint64_t net(struct world *world) {
    return chance_latency(&world->database_chance, world->scenario->net_us);
}

static uint64_t work(struct world *world) {
    uint64_t usual = chance_latency(&world->database_chance, world->scenario->database_us);
    return world_has(world, FAULT_STORE_SLOW) ? usual + chance_below(&world->database_chance, 3 * SECOND_US) : usual;
}

/* ---- without a connection ---- */

static void tell_lost(struct statement *statement) {
    struct store_task *task = statement->task;
    statement_free(statement);
    (void)snprintf(task->error, sizeof task->error, "no connection to PostgreSQL");
    task->done(task, STORE_LOST);
}

static void lose_unconnected(struct alarm *alarm) {
    struct worker *worker = OWNER(alarm, struct worker, database.lose);
    struct statements lost = TAILQ_HEAD_INITIALIZER(lost);
    struct statement *statement;
    if (worker_defers(worker, alarm))
        return;
    TAILQ_CONCAT(&lost, &worker->database.unconnected, entry);
    while ((statement = TAILQ_FIRST(&lost))) {
        TAILQ_REMOVE(&lost, statement, entry);
        tell_lost(statement);
    }
}

/* ---- with one ---- */

static void answer(struct alarm *alarm) {
    struct statement *statement = OWNER(alarm, struct statement, alarm);
    struct worker *worker = statement->worker;
    if (worker_defers(worker, alarm))
        return;
    struct store_task *task = statement->task;
    enum store_status status = statement->status;
    worker->submitted_at = worker->world->clock.now; /* it is heard of until now */
    TAILQ_REMOVE(&worker->database.statements, statement, entry);
    statement_free(statement);
    task->done(task, status);
}

static void weigh(struct world *world, struct statement *statement) {
    if (world_has(world, FAULT_STORE_FAILS) && (statement->kind == STORE_SAVE || !world_has_half(world, LINK_STORE)))
        statement->status = STORE_FAILED;
    else if (world_has(world, FAULT_STORE_DENIES))
        statement->status = STORE_DENIED;
    else
        statement->status = tables_execute(world, statement);
    world->statistics->statements++;
}

static void note_error(struct statement *statement) {
    static const char *const sqlstates[] = {"", "", "22P02", "42501", "53100"};
    struct store_task *task = statement->task;
    if (statement->status == STORE_DONE)
        return;
    (void)snprintf(task->sqlstate, sizeof task->sqlstate, "%s", sqlstates[statement->status]);
    (void)snprintf(task->error, sizeof task->error, "simulated: %s", statuses[statement->status]);
}

static void execute(struct alarm *alarm) {
    struct statement *statement = OWNER(alarm, struct statement, alarm);
    struct worker *worker = statement->worker;
    struct world *world = worker->world;
    statement->executed = true;
    weigh(world, statement);
    note_error(statement);
    TRACE(world, NULL, "%s: the database has executed a %s: %s", worker->name, kinds[statement->kind],
          statuses[statement->status]);
    uint64_t at = world->clock.now + net(world);
    if (at < worker->database.last_return)
        at = worker->database.last_return;
    worker->database.last_return = at;
    alarm_set(&world->clock, alarm, at, answer);
}

void database_submit(void *self, struct store_task *task) {
    struct worker *worker = self;
    struct world *world = worker->world;
    struct database_connection *connection = &worker->database;
    if (worker_call_begins(worker))
        return;
    promise_submit(world, worker, task);
    struct statement *statement = calloc(1, sizeof *statement);
    if (!statement)
        abort();
    task->database_now = 0;
    task->sqlstate[0] = task->error[0] = '\0';
    statement->worker = worker;
    statement->task = task;
    statement->kind = task->kind;
    if (!connection->up) {
        TAILQ_INSERT_TAIL(&connection->unconnected, statement, entry);
        alarm_set(&world->clock, &connection->lose, world->clock.now + chance_below(&world->database_chance, 1000),
                  lose_unconnected);
        worker_call_ends(worker);
        return;
    }
    tables_prepare(world, statement, task);
    TAILQ_INSERT_TAIL(&connection->statements, statement, entry);
    uint64_t arrival = world->clock.now + net(world);
    uint64_t begins = arrival > connection->last_execution ? arrival : connection->last_execution;
    connection->last_execution = begins + work(world);
    alarm_set(&world->clock, &statement->alarm, connection->last_execution, execute);
    worker_call_ends(worker);
}

/* ---- the connection ---- */

static void connected(struct alarm *alarm) {
    struct worker *worker = OWNER(alarm, struct worker, database.connect);
    struct world *world = worker->world;
    if (worker_defers(worker, alarm))
        return;
    if (world_has(world, FAULT_STORE_OUT)) {
        alarm_set(&world->clock, alarm, world->clock.now + chance_between(&world->database_chance, 500000, 1000000),
                  connected);
        portal_store_down(worker->portal, "no connection to PostgreSQL: connection refused");
        return;
    }
    worker->database.up = true;
    worker->database.last_execution = worker->database.last_return = world->clock.now;
    TRACE(world, NULL, "%s is connected to the database", worker->name);
    portal_connected(worker->portal, "store");
    portal_store_up(worker->portal);
}

void database_begin(struct worker *worker) {
    struct world *world = worker->world;
    worker->database.up = false;
    TAILQ_INIT(&worker->database.statements);
    TAILQ_INIT(&worker->database.unconnected);
    alarm_set(&world->clock, &worker->database.connect, world->clock.now + 4 * net(world), connected);
}

/* The server works on it, although the one who asked is gone. */
static void execute_late(struct alarm *alarm) {
    struct statement *statement = OWNER(alarm, struct statement, alarm);
    struct world *world = statement->worker->world;
    weigh(world, statement);
    TRACE(world, NULL, "the database has executed a late %s: %s", kinds[statement->kind], statuses[statement->status]);
    TAILQ_REMOVE(&world->late, statement, entry);
    statement_free(statement);
}

/* Result: the task, to be told; the statement goes, or lives on. */
static struct store_task *lose(struct world *world, struct statement *statement) {
    struct store_task *task = statement->task;
    statement->task = NULL;
    alarm_unset(&world->clock, &statement->alarm);
    if (!statement->executed && statement->kind != STORE_LOAD && chance_in(&world->database_chance, 1, 2)) {
        TAILQ_INSERT_TAIL(&world->late, statement, entry);
        uint64_t delay =
            chance_in(&world->database_chance, 1, 2) ? 0 : chance_below(&world->database_chance, 2 * SECOND_US);
        alarm_set(&world->clock, &statement->alarm, statement->alarm.at + delay, execute_late);
        return task;
    }
    TRACE(world, NULL, "the answer to a %s is lost, %s", kinds[statement->kind],
          statement->executed ? "which was executed" : "which was not executed");
    statement_free(statement);
    return task;
}

/* A worker that is gone can't be told, and its tasks with it. */
static void drop_all(struct worker *worker, struct statements *lost) {
    struct statement *statement;
    TAILQ_CONCAT(lost, &worker->database.unconnected, entry);
    alarm_unset(&worker->world->clock, &worker->database.connect);
    alarm_unset(&worker->world->clock, &worker->database.lose);
    while ((statement = TAILQ_FIRST(lost))) {
        TAILQ_REMOVE(lost, statement, entry);
        (void)lose(worker->world, statement);
    }
}

void database_lose(struct worker *worker, bool tell) {
    struct world *world = worker->world;
    struct statements lost = TAILQ_HEAD_INITIALIZER(lost);
    struct statement *statement;
    bool was_up = worker->database.up;
    worker->database.up = false;
    TAILQ_CONCAT(&lost, &worker->database.statements, entry);
    if (!tell) {
        drop_all(worker, &lost);
        return;
    }
    if (!was_up)
        return;
    TRACE(world, NULL, "%s loses its connection to the database", worker->name);
    alarm_set(&world->clock, &worker->database.connect,
              world->clock.now + chance_between(&world->database_chance, 1000, 1000000), connected);
    portal_store_down(worker->portal, "lost the connection to PostgreSQL");
    while ((statement = TAILQ_FIRST(&lost))) {
        TAILQ_REMOVE(&lost, statement, entry);
        bool executed = statement->executed;
        struct store_task *task = lose(world, statement);
        if (executed)
            tables_undo(task);
        task->done(task, STORE_LOST);
    }
}
