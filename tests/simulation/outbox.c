/* outbox.c — the connections that publish: replies and dead letters on their way to the broker, and what it says to
 * them. */
#include <errno.h>
#include <stdlib.h>

#include "world.h"

static void outgoing_free(struct outgoing *outgoing, struct clock *clock) {
    alarm_unset(clock, &outgoing->alarm);
    free(outgoing);
}

/* ---- what the core is told of the broker as a whole ---- */

void broker_report(struct worker *worker, const char *cause) {
    bool blocked = world_has(worker->world, FAULT_BLOCKED);
    if (worker->consumer.up && worker->outbox.up && !blocked)
        portal_broker_up(worker->portal);
    else if (cause || blocked)
        portal_broker_down(worker->portal, cause ? cause : "RabbitMQ blocks publishing");
}

/* ---- at the broker ---- */

static enum publish_result receive(struct world *world, struct outgoing *outgoing) {
    struct message *message = outgoing->message;
    if (outgoing->letter) {
        if (world_has(world, FAULT_DEAD_FULL))
            return chance_in(&world->broker_chance, 1, 2) ? PUBLISH_REFUSED : PUBLISH_RETURNED;
        message->letters++;
        return PUBLISH_CONFIRMED;
    }
    if (message->plan->reply == REPLY_GONE)
        return PUBLISH_RETURNED;
    if (world_has(world, FAULT_REPLIES_FULL) && message->plan->reply != REPLY_DIRECT)
        return PUBLISH_REFUSED;
    return PUBLISH_CONFIRMED;
}

static enum owed owed_of(enum publish_result result) {
    static const enum owed owed[] = {[PUBLISH_CONFIRMED] = OWED_CONFIRMED,
                                     [PUBLISH_RETURNED] = OWED_RETURNED,
                                     [PUBLISH_REFUSED] = OWED_REFUSED,
                                     [PUBLISH_LOST] = OWED_LOST};
    return owed[result];
}

static void note(struct outgoing *outgoing, enum publish_result result) {
    if (!outgoing->parcel)
        return;
    if (outgoing->letter)
        outgoing->parcel->letter = owed_of(result);
    else
        outgoing->parcel->reply = owed_of(result);
    if (!outgoing->letter && result == PUBLISH_REFUSED)
        promise_refused(outgoing->worker->world, outgoing->parcel);
}

static void confirm(struct alarm *alarm) {
    struct outgoing *outgoing = OWNER(alarm, struct outgoing, alarm);
    struct worker *worker = outgoing->worker;
    struct publication *publication = outgoing->publication;
    enum publish_result result = outgoing->result;
    if (worker_defers(worker, alarm))
        return;
    TAILQ_REMOVE(&worker->outbox.outgoing, outgoing, entry);
    note(outgoing, result);
    if (!outgoing->letter && publication && (result == PUBLISH_CONFIRMED || result == PUBLISH_RETURNED))
        outgoing->message->answers++;
    outgoing_free(outgoing, &worker->world->clock);
    if (publication) {
        publication->link = NULL;
        publication->done(publication, result);
    }
}

static void reach_broker(struct alarm *alarm) {
    struct outgoing *outgoing = OWNER(alarm, struct outgoing, alarm);
    struct world *world = outgoing->worker->world;
    static const char *const results[] = {"confirmed", "returned", "refused", "lost"};
    outgoing->arrived = true;
    outgoing->result = receive(world, outgoing);
    TRACE(world, outgoing->message, "%s %s by the broker", outgoing->letter ? "dead letter" : "reply",
          results[outgoing->result]);
    if (outgoing->publication || outgoing->parcel)
        alarm_set(&world->clock, alarm,
                  world->clock.now + chance_latency(&world->broker_chance, world->scenario->net_us), confirm);
    else { /* nobody listens any more */
        TAILQ_REMOVE(&outgoing->worker->outbox.outgoing, outgoing, entry);
        outgoing_free(outgoing, &world->clock);
    }
}

static void reach_late(struct alarm *alarm) {
    struct outgoing *outgoing = OWNER(alarm, struct outgoing, alarm);
    struct world *world = outgoing->worker->world;
    (void)receive(world, outgoing);
    TAILQ_REMOVE(&world->ghosts, outgoing, entry);
    outgoing_free(outgoing, &world->clock);
}

/* ---- publishing ---- */

static void has_room(struct alarm *alarm) {
    struct worker *worker = OWNER(alarm, struct worker, outbox.ready);
    if (worker_defers(worker, alarm))
        return;
    if (worker->outbox.up && !world_has(worker->world, FAULT_BLOCKED))
        portal_broker_ready(worker->portal);
}

int outbox_publish(void *self, struct publication *publication) {
    struct worker *worker = self;
    struct world *world = worker->world;
    const struct handed *handed = OWNER(publication->delivery, const struct handed, delivery);
    publication->link = NULL;
    if (worker_call_begins(worker))
        return -EAGAIN;
    if (!worker->outbox.up || world_has(world, FAULT_BLOCKED) || chance_in(&world->broker_chance, 1, 200)) {
        uint64_t later = world->clock.now + chance_latency(&world->broker_chance, world->scenario->net_us);
        alarm_set(&world->clock, &worker->outbox.ready, later, has_room);
        worker_call_ends(worker);
        return -EAGAIN;
    }
    struct outgoing *outgoing = calloc(1, sizeof *outgoing);
    if (!outgoing)
        abort();
    outgoing->worker = worker;
    outgoing->publication = publication;
    outgoing->parcel = handed->parcel;
    outgoing->message = handed->parcel->message;
    outgoing->letter = publication->letter != NULL;
    publication->link = outgoing;
    TAILQ_INSERT_TAIL(&worker->outbox.outgoing, outgoing, entry);
    promise_published(world, handed->parcel, publication);
    if (outgoing->letter)
        handed->parcel->letter = OWED_UNDERWAY;
    else
        handed->parcel->reply = OWED_UNDERWAY;
    alarm_set(&world->clock, &outgoing->alarm,
              world->clock.now + chance_latency(&world->broker_chance, world->scenario->net_us), reach_broker);
    worker_call_ends(worker);
    return 0;
}

void outbox_abandon(void *self, struct publication *publication) {
    struct worker *worker = self;
    struct outgoing *outgoing = publication->link;
    if (worker->dead || !outgoing)
        return;
    TRACE(worker->world, outgoing->message, "%s abandons a publication", worker->name);
    outgoing->publication = NULL;
    outgoing->parcel = NULL;
    publication->link = NULL;
}

/* ---- the connection ---- */

static void connected(struct alarm *alarm) {
    struct worker *worker = OWNER(alarm, struct worker, outbox.connect);
    struct world *world = worker->world;
    if (worker_defers(worker, alarm))
        return;
    if (world_has(world, FAULT_BROKER_OUT)) {
        alarm_set(&world->clock, alarm, world->clock.now + chance_between(&world->broker_chance, 500000, 1000000),
                  connected);
        broker_report(worker, "no connection to RabbitMQ: connection refused");
        return;
    }
    worker->outbox.up = true;
    TRACE(world, NULL, "%s is connected to publish", worker->name);
    if (!world_has(world, FAULT_BLOCKED))
        portal_broker_ready(worker->portal);
    broker_report(worker, NULL);
}

void outbox_unblock(struct worker *worker) {
    if (worker->outbox.up)
        portal_broker_ready(worker->portal);
    broker_report(worker, NULL);
}

void outbox_begin(struct worker *worker) {
    struct world *world = worker->world;
    TAILQ_INIT(&worker->outbox.outgoing);
    worker->outbox.up = false;
    alarm_set(&world->clock, &worker->outbox.connect,
              world->clock.now + chance_latency(&world->broker_chance, 4 * world->scenario->net_us), connected);
}

/* What had not reached the broker may reach it yet: the bytes were sent. */
static void lose(struct world *world, struct outgoing *outgoing) {
    struct publication *publication = outgoing->publication;
    note(outgoing, PUBLISH_LOST);
    outgoing->publication = NULL;
    outgoing->parcel = NULL;
    if (!outgoing->arrived && chance_in(&world->broker_chance, 1, 2)) {
        TAILQ_INSERT_TAIL(&world->ghosts, outgoing, entry);
        alarm_set(&world->clock, &outgoing->alarm, outgoing->alarm.at, reach_late);
    } else
        outgoing_free(outgoing, &world->clock);
    if (publication) {
        publication->link = NULL;
        publication->done(publication, PUBLISH_LOST);
    }
}

void outbox_lose(struct worker *worker, bool tell) {
    struct world *world = worker->world;
    struct outgoings lost = TAILQ_HEAD_INITIALIZER(lost);
    struct outgoing *outgoing;
    bool was_up = worker->outbox.up;
    worker->outbox.up = false;
    alarm_unset(&world->clock, &worker->outbox.ready);
    TAILQ_CONCAT(&lost, &worker->outbox.outgoing, entry);
    if (tell && was_up) {
        TRACE(world, NULL, "%s loses the connection that publishes", worker->name);
        alarm_set(&world->clock, &worker->outbox.connect,
                  world->clock.now + chance_between(&world->broker_chance, 1000, 1500000), connected);
    } else if (!tell)
        alarm_unset(&world->clock, &worker->outbox.connect);
    while ((outgoing = TAILQ_FIRST(&lost))) {
        TAILQ_REMOVE(&lost, outgoing, entry);
        if (!tell)
            outgoing->publication = NULL;
        lose(world, outgoing);
    }
    if (tell && was_up)
        broker_report(worker, "lost the connection to RabbitMQ");
}
