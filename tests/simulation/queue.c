/* queue.c — portal.requests, as a quorum queue keeps it: first in, first out, what comes back stands in front and
 * counts as another delivery; and the connections that consume, to whose channel each delivery belongs. */
#include <stdlib.h>
#include <string.h>

#include "world.h"

/* ---- the queue ---- */

void queue_publish(struct world *world, struct message *message) {
    message->state = MESSAGE_QUEUED;
    message->sent_at = world->clock.now;
    message->returns = message->plan->returns;
    message->tries = message->crashes_alone = message->plan->tries;
    TAILQ_INSERT_TAIL(&world->queue, message, entry);
    TRACE(world, message, "sent");
    queue_pump(world);
}

static void put_back(struct world *world, struct message *message) {
    message->returns++;
    message->state = MESSAGE_QUEUED;
    TAILQ_INSERT_HEAD(&world->queue, message, entry);
    TRACE(world, message, "is back in the queue, x-delivery-count %u", message->returns);
}

static void settle(struct world *world, const struct parcel *parcel) {
    struct message *message = parcel->message;
    if (parcel->settlement == SETTLE_GIVE_BACK) {
        put_back(world, message);
        return;
    }
    if (parcel->settlement == SETTLE_REJECT) {
        message->letters++;
        promise_rejected(world, message);
    }
    message->state = MESSAGE_DONE;
    world->done_messages++;
    TRACE(world, message, "%s: gone from the queue",
          parcel->settlement == SETTLE_REJECT ? "rejected, dead-lettered by the broker" : "acknowledged");
}

static void parcel_free(struct parcel *parcel) {
    alarm_unset(&parcel->worker->world->clock, &parcel->alarm);
    free(parcel->handed);
    free(parcel);
}

/* ---- delivering ---- */

static void arrive(struct alarm *alarm) {
    struct parcel *parcel = OWNER(alarm, struct parcel, alarm);
    struct worker *worker = parcel->worker;
    if (worker_defers(worker, alarm))
        return;
    parcel->arrived = true;
    parcel->handed = message_hand(worker->world, parcel->message);
    parcel->handed->parcel = parcel;
    parcel->ordinal = ++parcel->message->deliveries;
    worker->world->statistics->deliveries++;
    TRACE(worker->world, parcel->message, "delivered to %s", worker->name);
    portal_deliver(worker->portal, &parcel->handed->delivery);
    promise_delivered(worker->world, parcel);
}

static void deliver(struct worker *worker, struct message *message) {
    struct world *world = worker->world;
    struct consumer *consumer = &worker->consumer;
    struct parcel *parcel = calloc(1, sizeof *parcel);
    if (!parcel)
        abort();
    parcel->worker = worker;
    parcel->message = message;
    parcel->session = -1;
    parcel->alone = consumer->there == INTAKE_ONE;
    TAILQ_INSERT_TAIL(&consumer->parcels, parcel, entry);
    consumer->unacked++;
    consumer->alone += parcel->alone;
    message->state = MESSAGE_DELIVERED;
    uint64_t at = world->clock.now + chance_latency(&world->broker_chance, world->scenario->net_us);
    if (at < consumer->last_arrival)
        at = consumer->last_arrival;
    consumer->last_arrival = at;
    alarm_set(&world->clock, &parcel->alarm, at, arrive);
}

static bool has_room(const struct consumer *consumer, unsigned prefetch) {
    if (!consumer->up || consumer->there == INTAKE_NONE || consumer->unacked >= prefetch)
        return false;
    return consumer->there == INTAKE_ALL || consumer->alone == 0;
}

/* The next consumer in turn that has room. */
static struct worker *find_consumer(struct world *world) {
    for (unsigned i = 0; i < world->scenario->workers; i++) {
        struct worker *worker = &world->workers[(world->next_consumer + i) % world->scenario->workers];
        if (has_room(&worker->consumer, world->scenario->settings.concurrency)) {
            world->next_consumer = worker->index + 1;
            return worker;
        }
    }
    return NULL;
}

void queue_pump(struct world *world) {
    struct message *message;
    struct worker *worker;
    while ((message = TAILQ_FIRST(&world->queue)) && (worker = find_consumer(world))) {
        TAILQ_REMOVE(&world->queue, message, entry);
        deliver(worker, message);
    }
}

/* ---- settling ---- */

static void settlement_arrives(struct alarm *alarm) {
    struct parcel *parcel = OWNER(alarm, struct parcel, alarm);
    struct worker *worker = parcel->worker;
    TAILQ_REMOVE(&worker->consumer.parcels, parcel, entry);
    worker->consumer.unacked--;
    worker->consumer.alone -= parcel->alone;
    settle(worker->world, parcel);
    parcel_free(parcel);
    queue_pump(worker->world);
}

void queue_settle(void *self, struct delivery *delivery, enum settlement settlement) {
    struct worker *worker = self;
    struct world *world = worker->world;
    struct handed *handed = OWNER(delivery, struct handed, delivery);
    struct parcel *parcel = handed->parcel;
    bool lost = delivery->lost;
    if (worker_call_begins(worker))
        return;
    TRACE(world, parcel->message, "%s %s%s", worker->name,
          settlement == SETTLE_ACKNOWLEDGE ? "acknowledges"
          : settlement == SETTLE_REJECT    ? "rejects"
                                           : "gives back",
          lost ? " what its channel took along" : "");
    promise_settled(world, parcel, settlement);
    free(handed);
    parcel->handed = NULL;
    parcel->settled = true;
    parcel->settlement = settlement;
    if (lost) {
        TAILQ_REMOVE(&worker->consumer.lost, parcel, entry);
        parcel_free(parcel);
    } else {
        uint64_t at = world->clock.now + chance_latency(&world->broker_chance, world->scenario->net_us);
        if (at < worker->consumer.last_settlement)
            at = worker->consumer.last_settlement;
        worker->consumer.last_settlement = at;
        alarm_set(&world->clock, &parcel->alarm, at, settlement_arrives);
    }
    worker_call_ends(worker);
}

/* ---- the consumer ---- */

static void consumer_changes(struct alarm *alarm) {
    struct worker *worker = OWNER(alarm, struct worker, consumer.change);
    struct parcel *parcel;
    worker->consumer.there = worker->consumer.wanted;
    worker->consumer.alone = 0; /* what is in hand is from before */
    TAILQ_FOREACH(parcel, &worker->consumer.parcels, entry)
    parcel->alone = false;
    queue_pump(worker->world);
}

static void change(struct worker *worker) {
    struct world *world = worker->world;
    if (worker->consumer.up && worker->consumer.wanted != worker->consumer.there)
        alarm_set(&world->clock, &worker->consumer.change,
                  world->clock.now + chance_latency(&world->broker_chance, world->scenario->net_us), consumer_changes);
}

void queue_intake(void *self, enum intake wanted) {
    struct worker *worker = self;
    if (worker_call_begins(worker))
        return;
    TRACE(worker->world, NULL, "%s %s", worker->name,
          wanted == INTAKE_ALL   ? "opens its intake"
          : wanted == INTAKE_ONE ? "takes one in"
                                 : "closes its intake");
    if (wanted == INTAKE_ONE)
        worker->one_since = worker->world->clock.now;
    else if (wanted == INTAKE_ALL && worker->one_since > 0 &&
             worker->world->clock.now - worker->one_since >= 40 * SECOND_US)
        /* the one it let in waits for something else: it may not wait for it for ever */
        memset(worker->half_since, 0, sizeof worker->half_since);
    worker->consumer.wanted = wanted;
    change(worker);
    worker_call_ends(worker);
}

/* ---- the connection ---- */

static void connected(struct alarm *alarm) {
    struct worker *worker = OWNER(alarm, struct worker, consumer.connect);
    struct world *world = worker->world;
    if (worker_defers(worker, alarm))
        return;
    if (world_has(world, FAULT_BROKER_OUT)) {
        alarm_set(&world->clock, alarm, world->clock.now + chance_between(&world->broker_chance, 500000, 1000000),
                  connected);
        broker_report(worker, "no connection to RabbitMQ: connection refused");
        return;
    }
    worker->consumer.up = true;
    worker->consumer.there = INTAKE_NONE;
    TRACE(world, NULL, "%s is connected to consume", worker->name);
    change(worker);
    broker_report(worker, NULL);
}

void consumer_begin(struct worker *worker) {
    struct world *world = worker->world;
    TAILQ_INIT(&worker->consumer.parcels);
    TAILQ_INIT(&worker->consumer.lost);
    worker->consumer.unacked = worker->consumer.alone = 0;
    worker->consumer.wanted = worker->consumer.there = INTAKE_NONE;
    worker->consumer.up = false;
    alarm_set(&world->clock, &worker->consumer.connect,
              world->clock.now + chance_latency(&world->broker_chance, 4 * world->scenario->net_us), connected);
}

/* The broker takes back all that it has not heard of; some settlements it just did hear. */
static void take_back(struct worker *worker, bool orderly) {
    struct world *world = worker->world;
    struct parcel *parcel;
    while ((parcel = TAILQ_LAST(&worker->consumer.parcels, parcels))) {
        TAILQ_REMOVE(&worker->consumer.parcels, parcel, entry);
        alarm_unset(&world->clock, &parcel->alarm);
        if (parcel->settled && (orderly || chance_in(&world->broker_chance, 1, 2)))
            settle(world, parcel);
        else
            put_back(world, parcel->message);
        if (!parcel->handed) {
            parcel_free(parcel);
            continue;
        }
        parcel->handed->delivery.lost = true;
        TAILQ_INSERT_HEAD(&worker->consumer.lost, parcel, entry);
    }
    worker->consumer.unacked = worker->consumer.alone = 0;
}

void consumer_lose(struct worker *worker, bool tell) {
    struct world *world = worker->world;
    bool was_up = worker->consumer.up;
    worker->consumer.up = false;
    worker->consumer.there = INTAKE_NONE;
    alarm_unset(&world->clock, &worker->consumer.change);
    take_back(worker, worker->ending);
    if (tell && was_up) {
        TRACE(world, NULL, "%s loses the connection that consumes", worker->name);
        portal_deliveries_lost(worker->portal);
        broker_report(worker, "lost the connection to RabbitMQ");
        alarm_set(&world->clock, &worker->consumer.connect,
                  world->clock.now + chance_between(&world->broker_chance, 1000, 1500000), connected);
    }
    queue_pump(world);
}

void consumer_end(struct worker *worker) {
    struct parcel *parcel;
    consumer_lose(worker, false);
    alarm_unset(&worker->world->clock, &worker->consumer.connect);
    while ((parcel = TAILQ_FIRST(&worker->consumer.lost))) {
        TAILQ_REMOVE(&worker->consumer.lost, parcel, entry);
        parcel_free(parcel);
    }
}
