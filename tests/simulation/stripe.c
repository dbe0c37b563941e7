/* stripe.c — the way to Stripe and back: delay, loss before and after the effect, and what is in between. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "promises.h"
#include "world.h"

enum { TIMEOUT_US = 20 * 1000 * 1000 }; /* after which the link gives a call up */

void call_free(struct call *call) {
    free(call->form);
    free(call->body);
    free(call);
}

static uint64_t net(struct world *world) {
    uint64_t usual = chance_latency(&world->stripe_chance, world->scenario->net_us);
    return world_has(world, FAULT_STRIPE_SLOW) ? usual + chance_below(&world->stripe_chance, 8 * SECOND_US) : usual;
}

static void unlist(struct world *world, struct call *call) {
    if (call->worker)
        TAILQ_REMOVE(&call->worker->calls, call, entry);
    else
        TAILQ_REMOVE(&world->orphans, call, entry);
}

static void tell(struct alarm *alarm) {
    struct call *call = OWNER(alarm, struct call, alarm);
    struct world *world = call->world;
    struct stripe_exchange *exchange = call->exchange;
    if (call->worker && worker_defers(call->worker, alarm))
        return;
    unlist(world, call);
    if (!exchange) {
        call_free(call);
        return;
    }
    exchange->error = call->error;
    exchange->status = call->status;
    exchange->body = call->body;
    exchange->body_length = call->body ? strlen(call->body) : 0;
    exchange->replayed = call->replayed;
    exchange->should_retry = call->should_retry;
    exchange->retry_after_ms = call->retry_after_ms;
    (void)snprintf(exchange->explanation, sizeof exchange->explanation, "%s",
                   call->error != 0 ? "simulated: no answer" : "");
    (void)snprintf(exchange->request_id, sizeof exchange->request_id, "%s", call->error != 0 ? "" : "req_1");
    exchange->link = NULL;
    stripe_served(world, call);
    if (call->uses_up && call->error == 0 && strcmp(call->path, "/v1/billing_portal/configurations") == 0)
        call->worker->used_up = hash_bytes(call->key, strlen(call->key));
    TRACE(world, NULL, "%s hears of %s %s %s: %d%s", call->worker->name, call->post ? "POST" : "GET", call->path,
          call->key, call->error != 0 ? call->error : call->status, call->replayed ? " replayed" : "");
    if (call->error == 0 && call->status == 429)
        promise_slowed(call->worker, exchange);
    exchange->done(exchange);
    call_free(call);
}

static void reach_stripe(struct alarm *alarm) {
    struct call *call = OWNER(alarm, struct call, alarm);
    struct world *world = call->world;
    call->phase = CALL_WORKING;
    uint64_t takes = stripe_serve(world, call);
    uint64_t at = world->clock.now + takes;
    if (!call->respond)
        at = world->clock.now + TIMEOUT_US;
    else
        at += net(world);
    TRACE(world, NULL, "Stripe serves %s %s %s: %d %s", call->post ? "POST" : "GET", call->path, call->key,
          call->error != 0 ? call->error : call->status, call->body ? call->body : "");
    alarm_set(&world->clock, alarm, at, tell);
}

void stripe_start(void *self, struct stripe_exchange *exchange) {
    struct worker *worker = self;
    struct world *world = worker->world;
    exchange->link = NULL;
    if (worker_call_begins(worker))
        return;
    promise_call(world, worker, exchange);
    struct call *call = calloc(1, sizeof *call);
    if (!call)
        abort();
    call->world = world;
    call->worker = worker;
    call->exchange = exchange;
    call->post = exchange->post;
    call->asker = conduct_asker(exchange);
    call->respond = true;
    call->should_retry = -1;
    call->retry_after_ms = -1;
    (void)snprintf(call->path, sizeof call->path, "%s", exchange->path);
    (void)snprintf(call->key, sizeof call->key, "%s", exchange->idempotency_key ? exchange->idempotency_key : "");
    call->form = strdup(exchange->form ? exchange->form : "");
    if (!call->form)
        abort();
    exchange->link = call;
    TAILQ_INSERT_TAIL(&worker->calls, call, entry);
    world->statistics->calls++;
    TRACE(world, NULL, "%s calls %s %s %s %s", worker->name, call->post ? "POST" : "GET", call->path, call->key,
          call->form);
    alarm_set(&world->clock, &call->alarm, world->clock.now + net(world), reach_stripe);
    worker_call_ends(worker);
}

/* Takes over a call that its worker has let go of: nobody listens any more; what was sent may have its effect. */
static void orphan(struct call *call) {
    struct world *world = call->world;
    call->exchange = NULL;
    if (call->phase == CALL_WORKING || chance_in(&world->stripe_chance, 1, 3)) {
        alarm_unset(&world->clock, &call->alarm);
        call_free(call);
        return;
    }
    call->worker = NULL;
    TAILQ_INSERT_TAIL(&world->orphans, call, entry);
}

void stripe_cancel(void *self, struct stripe_exchange *exchange) {
    struct worker *worker = self;
    struct call *call = exchange->link;
    if (worker->dead || !call)
        return;
    TRACE(worker->world, NULL, "%s cancels %s %s", worker->name, call->path, call->key);
    exchange->link = NULL;
    TAILQ_REMOVE(&worker->calls, call, entry);
    orphan(call);
}

void stripe_drop_all(struct worker *worker) {
    struct call *call;
    while ((call = TAILQ_FIRST(&worker->calls))) {
        TAILQ_REMOVE(&worker->calls, call, entry);
        orphan(call);
    }
}
