/* conduct.c — what DESIGN.md promises of a worker's conduct: towards Stripe and the database, in outages, and when
 * there is nothing to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../worker/portal/configuration.h"
#include "promises.h"
#include "world.h"

enum {
    TURNS_MAX = 5000,              /* at one moment of time */
    PAUSED_STARTS = 4,             /* calls a second to a Stripe that does not serve */
    PAUSED_SUBMITS = 8,            /* statements a second to a store that does not */
    PROBES_APART_US = 3500 * 1000, /* the longest that nobody asks, where the last one who did hangs */
    FIRST_FEW = 10,                /* requests that may go first, and another each so many seconds */
    FIRST_EVERY = 2,
    PARTING_US = 3500 * 1000,  /* how long a worker that is to end waits for what is away */
    LATE_US = 8 * 1000 * 1000, /* an answer that is due may come so late; who waits for a suspect may not be read yet */
};

/* ---- Stripe ---- */

static enum endpoint endpoint_of(const struct stripe_exchange *exchange) {
    if (strncmp(exchange->path, "/v1/billing_portal/sessions", 27) == 0)
        return ENDPOINT_SESSIONS;
    if (strncmp(exchange->path, "/v1/products/", 13) == 0)
        return ENDPOINT_PRODUCTS;
    return strncmp(exchange->path, "/v1/prices", 10) == 0 ? ENDPOINT_PRICES : ENDPOINT_CONFIGURATIONS;
}

static const struct job *job_of(const struct stripe_exchange *exchange) {
    return OWNER(OWNER(exchange, const struct errand, exchange), const struct job, errand);
}

static const struct parcel *parcel_of(const struct job *job) {
    return OWNER(job->delivery, const struct handed, delivery)->parcel;
}

static const struct message *message_of_job(const struct job *job) {
    return parcel_of(job)->message;
}

static const struct message *message_of(const struct stripe_exchange *exchange) {
    return message_of_job(job_of(exchange));
}

uint64_t conduct_asker(const struct stripe_exchange *exchange) {
    if (!exchange->post || endpoint_of(exchange) != ENDPOINT_SESSIONS)
        return 0;
    const struct parcel *parcel = parcel_of(job_of(exchange));
    return ((uint64_t)parcel->message->index + 1) << 32 | parcel->ordinal;
}

/* "portal:<namespace>:<request id>:<generation>:<n>" */
static void check_key(struct world *world, const struct stripe_exchange *exchange) {
    const struct message *message = message_of(exchange);
    const char *key = exchange->idempotency_key;
    char expected[64];
    (void)snprintf(expected, sizeof expected, "portal:%s:r%u:", world->scenario->settings.account, message->plan->id);
    char *end = NULL;
    unsigned long generation = 0, number = 0;
    if (key && strncmp(key, expected, strlen(expected)) == 0) {
        generation = strtoul(key + strlen(expected), &end, 10);
        number = *end == ':' ? strtoul(end + 1, NULL, 10) : 0;
    }
    if (generation == 0 || *end != ':') {
        violate(world, message, "a session is asked for under the request's own key", "\"%s\"", key ? key : "none");
        return;
    }
    if (number > 0) {
        char before[200];
        (void)snprintf(before, sizeof before, "%s%lu:%lu", expected, generation, number - 1);
        if (!stripe_key_is_used_up(world, before))
            violate(world, message, "a key is left only when it is used up", "%s after %s", key, before);
    }
    /* a request that is loaded again, as its configuration is another one now, walks its keys again */
    if (stripe_told_used_up(world, key, conduct_asker(exchange)) > 1)
        violate(world, message, "a key that is used up is not asked again", "%s", key);
}

/* As long as nothing goes wrong, which may last longer than a lease. */
static void check_lease(const struct worker *worker, const char *key) {
    struct world *world = worker->world;
    char prefix[64];
    (void)snprintf(prefix, sizeof prefix, "portal:%s:configuration:", world->scenario->settings.account);
    if (world->scenario->fault_count == 0 && strncmp(key, prefix, strlen(prefix)) == 0 &&
        !tables_holds_lease(world, key + strlen(prefix), worker->name))
        violate(world, NULL, "a configuration is made by one worker at a time", "%s has no lease for %s", worker->name,
                key);
}

/* Between a key that is used up and the next Stripe is asked what there is. */
static void check_configuration_key(struct worker *worker, const struct stripe_exchange *exchange) {
    const char *key = exchange->idempotency_key;
    if (exchange->post && strcmp(exchange->path, "/v1/billing_portal/configurations") == 0 && !key)
        violate(worker->world, NULL, "a configuration is made under a key", "%s", exchange->path);
    else if (key && worker->used_up == hash_bytes(key, strlen(key)))
        violate(worker->world, NULL, "a key that is used up is not asked again", "%s", key);
    worker->used_up = 0;
    if (key)
        check_lease(worker, key);
}

static void check_deadline(struct world *world, const struct stripe_exchange *exchange) {
    const struct job *job = job_of(exchange);
    if (job->request.deadline > 0 && world_wall(world) > job->request.deadline + promise_tolerance_us(world))
        violate(world, message_of(exchange), "no call is made once the deadline has passed", "%.1f s after it",
                (double)(world_wall(world) - job->request.deadline) / 1e6);
}

/* The time of the call that was made so many calls ago has to be a second back. */
static void check_rate(struct world *world, enum endpoint endpoint) {
    unsigned limit = world->scenario->settings.stripe_rate_limit;
    const struct scenario *scenario = world->scenario;
    if (limit == 0)
        return;
    unsigned allowed = limit + limit / 3 + 2;
    if (scenario->faults_of_kind[FAULT_STALL] > 0 || scenario->faults_of_kind[FAULT_STORE_SLOW] > 0 ||
        scenario->net_us >= 20000)
        allowed *= 2; /* a run of send times that came late is late as a whole */
    uint64_t *times = world->call_times[endpoint];
    uint64_t *place = &times[world->call_counts[endpoint] % CALL_TIMES];
    uint64_t back = times[(world->call_counts[endpoint] + CALL_TIMES - allowed) % CALL_TIMES];
    *place = world->clock.now;
    if (world->call_counts[endpoint]++ >= allowed && back + SECOND_US > world->clock.now)
        violate(world, NULL, "Stripe's limits are kept by the whole fleet", "more than %u calls to %s in %.3f s",
                allowed, endpoint_name(endpoint), (double)(world->clock.now - back) / 1e6);
}

static bool is_probe(const struct stripe_exchange *exchange) {
    return strcmp(exchange->path, "/v1/billing_portal/configurations?limit=1") == 0;
}

/* A probe only asks whether Stripe is there. */
void promise_slowed(struct worker *worker, const struct stripe_exchange *exchange) {
    if (is_probe(exchange))
        return;
    uint64_t *until = &worker->slowed_until[endpoint_of(exchange)];
    uint64_t wait_ms = exchange->retry_after_ms >= 0 ? (uint64_t)exchange->retry_after_ms : 1000;
    if (*until < worker->world->clock.now + wait_ms * 1000)
        *until = worker->world->clock.now + wait_ms * 1000;
}

static void count_second(struct worker *worker) {
    uint64_t second = worker->world->clock.now / SECOND_US;
    if (worker->second == second)
        return;
    worker->second = second;
    worker->starts = worker->submits = worker->wakes = 0;
}

static bool is_down_since(const struct worker *worker, enum link_id link, uint64_t us) {
    const struct link_state *state = &worker->portal->links[link];
    return state->down && portal_now(worker->portal) - state->since > us;
}

void promise_call(struct world *world, struct worker *worker, const struct stripe_exchange *exchange) {
    enum endpoint endpoint = endpoint_of(exchange);
    worker->started_at = world->clock.now;
    count_second(worker);
    worker->starts++;
    if (is_down_since(worker, LINK_STRIPE, 2 * SECOND_US) && worker->starts > PAUSED_STARTS)
        violate(world, NULL, "nothing spins in an outage", "%s made %u calls in a second to a Stripe that is down",
                worker->name, worker->starts);
    if (is_probe(exchange))
        return;
    check_rate(world, endpoint);
    if (world->clock.now < worker->slowed_until[endpoint])
        violate(world, NULL, "a 429 slows whoever hears of it", "%s calls %s %.3f s too early", worker->name,
                endpoint_name(endpoint), (double)(worker->slowed_until[endpoint] - world->clock.now) / 1e6);
    if (endpoint == ENDPOINT_SESSIONS) {
        check_key(world, exchange);
        check_deadline(world, exchange);
    } else if (endpoint == ENDPOINT_CONFIGURATIONS)
        check_configuration_key(worker, exchange);
}

/* ---- the database ---- */

/* The shape is what the request resolved to when it was looked up, not only what it asks for. */
static void check_shape(struct world *world, const struct save_row *row, const struct message *message) {
    static const char *const promise = "a session is shared and reused within one shape";
    const struct job *job = OWNER(row, const struct job, save);
    if (strcmp(row->customer, job->load.team.customer) != 0)
        violate(world, message, promise, "it is %s's, the team is %s", row->customer, job->load.team.customer);
    else if (strcmp(row->configuration, job->configuration) != 0)
        violate(world, message, promise, "it has %s instead of %s", row->configuration, job->configuration);
}

/* In a compact JSON text; where there is a value. */
static bool says(const char *json, const char *name, const char *value) {
    char member[128];
    (void)snprintf(member, sizeof member, "\"%s\":\"%s\"", name, value ? value : "");
    return !value || strstr(json, member);
}

static void check_kept(struct world *world, const struct save_row *row) {
    const struct message *message = message_of_job(OWNER(row, const struct job, save));
    if (!says(row->answer, "outcome", row->outcome) || !says(row->answer, "code", row->code) ||
        !says(row->answer, "id", row->session_id))
        violate(world, message, "the answer that is kept is the one that is given", "%s %s %s: %s", row->outcome,
                row->code ? row->code : "", row->session_id ? row->session_id : "", row->answer);
    if (row->session_id)
        check_shape(world, row, message);
    uint64_t deadline = message_deadline(world, message);
    if (row->generation == 0)
        violate(world, message, "a generation begins with 1", "%s", row->request_id);
    if (row->session_id && deadline > 0 && world_wall(world) > deadline + promise_tolerance_us(world))
        violate(world, message, "no session is handed out once the deadline has passed", "%.1f s after it",
                (double)(world_wall(world) - deadline) / 1e6);
}

void promise_submit(struct world *world, struct worker *worker, const struct store_task *task) {
    count_second(worker);
    worker->submits += task->kind == STORE_SAVE || !world_has_half(world, LINK_STORE); /* the rest is served */
    worker->submitted_at = world->clock.now;
    if (is_down_since(worker, LINK_STORE, 2 * SECOND_US) && worker->submits > PAUSED_SUBMITS)
        violate(world, NULL, "nothing spins in an outage", "%s made %u statements in a second", worker->name,
                worker->submits);
    if (task->kind != STORE_SAVE)
        return;
    for (size_t i = 0; i < task->save.count; i++) {
        check_kept(world, task->save.rows[i]);
        for (size_t j = 0; j < i; j++)
            if (strcmp(task->save.rows[i]->request_id, task->save.rows[j]->request_id) == 0)
                violate(world, NULL, "no request is in one batch twice", "%s", task->save.rows[i]->request_id);
    }
}

/* ---- turns ---- */

void promise_turn(struct worker *worker) {
    struct world *world = worker->world;
    if (worker->turn_at != world->clock.now) {
        worker->turn_at = world->clock.now;
        worker->turns = 0;
    }
    count_second(worker);
    worker->wakes++;
    if (++worker->turns > TURNS_MAX)
        violate(world, NULL, "nothing spins", "%s takes turn after turn at one moment", worker->name);
    bool paused = is_down_since(worker, LINK_STRIPE, 2 * SECOND_US) || is_down_since(worker, LINK_STORE, 2 * SECOND_US);
    if (paused && worker->wakes > 100 + 10 * world->scenario->settings.concurrency)
        violate(world, NULL, "nothing spins in an outage", "%s took %u turns in a second", worker->name, worker->wakes);
}

/* ---- outages ---- */

static void check_intake(struct worker *worker) {
    const struct portal *portal = worker->portal;
    struct world *world = worker->world;
    bool down = false;
    for (size_t i = 0; i < LINKS; i++)
        down = down || portal->links[i].down;
    bool consumes = worker->consumer.wanted != INTAKE_NONE;
    if (down && consumes)
        violate(world, NULL, "the intake is closed in an outage", "%s still consumes", worker->name);
    else if (!down && !worker->draining && !consumes)
        violate(world, NULL, "a worker goes on by itself", "%s does not consume, and knows of no outage", worker->name);
    else if (worker->draining && consumes)
        violate(world, NULL, "a worker that is to end takes in nothing more", "%s still consumes", worker->name);
    else if (!worker->database.up && !portal->links[LINK_STORE].down)
        violate(world, NULL, "the intake is closed in an outage", "%s does not know that the database is away",
                worker->name);
    else if (!(worker->consumer.up && worker->outbox.up) && !portal->links[LINK_BROKER].down)
        violate(world, NULL, "the intake is closed in an outage", "%s does not know that the broker is away",
                worker->name);
}

static void check_hold(struct worker *worker) {
    const struct portal *portal = worker->portal;
    const struct job *job;
    uint64_t hold = (worker->settings.hold_seconds + 2) * SECOND_US;
    bool held = false;
    for (enum link_id link = LINK_BROKER; link < LINKS; link++)
        held = held || is_down_since(worker, link, hold);
    if (!held || worker->stalled_until + SECOND_US > worker->world->clock.now)
        return;
    TAILQ_FOREACH(job, &portal->jobs, all)
    if (!job->leaving && job->state != JOB_LEAVING && portal_now(portal) - job->delivered_at > hold)
        violate(worker->world, message_of_job(job), "in an outage what is in hand is given back after a while",
                "%s still has it", worker->name);
}

/* Deliveries of one request are worked one after the other: until there is an answer, not until it is replied. */
static void check_behind(struct worker *worker) {
    const struct job *job, *first;
    TAILQ_FOREACH(job, &worker->portal->queues[JOB_BEHIND], queue)
    TAILQ_FOREACH(first, &worker->portal->jobs, all)
    if (first->holds_id && first->state >= JOB_TO_PUBLISH && first->state <= JOB_REFUSED &&
        strcmp(first->request.request_id, job->request.request_id) == 0)
        violate(worker->world, message_of_job(job), "nobody waits for the reply to another delivery", "%s has it wait",
                worker->name);
}

/* What can't be finished, for something is away, is given back soon by a worker that is to end. */
static void check_parting(struct worker *worker) {
    const struct portal *portal = worker->portal;
    uint64_t now = worker->world->clock.now;
    const struct job *job;
    if (!worker->draining || now - worker->told_to_end_at < PARTING_US || worker->stalled_until + PARTING_US > now)
        return;
    bool broker = is_down_since(worker, LINK_BROKER, PARTING_US), store = is_down_since(worker, LINK_STORE, PARTING_US);
    bool stripe = is_down_since(worker, LINK_STRIPE, PARTING_US);
    TAILQ_FOREACH(job, &portal->jobs, all)
    if (!job->leaving && portal_now(portal) - job->stage_since > PARTING_US &&
        ((broker && job->state >= JOB_TO_PUBLISH && job->state <= JOB_REFUSED) ||
         (store && job->state < JOB_TO_PUBLISH) || (stripe && job->state == JOB_FOLLOWING)))
        violate(worker->world, message_of_job(job), "a worker that is to end gives back what can't be finished",
                "%s still has it after %.1f s", worker->name, (double)(now - worker->told_to_end_at) / 1e6);
}

static bool waits_for_session(const struct job *job) {
    return job->state == JOB_HELD || job->state == JOB_CONFIGURING || job->state == JOB_FOLLOWING ||
           job->state == JOB_CALLING;
}

/* While the store can keep the answer. */
static void check_overdue(struct worker *worker) {
    struct world *world = worker->world;
    const struct job *job;
    uint64_t late = promise_tolerance_us(world) + LATE_US;
    if (worker->portal->links[LINK_STORE].down)
        worker->store_down_at = world->clock.now;
    if (worker->store_down_at + LATE_US > world->clock.now || worker->stalled_until + LATE_US > world->clock.now ||
        world->scenario->faults_of_kind[FAULT_STORE_SLOW] > 0)
        return;
    TAILQ_FOREACH(job, &worker->portal->jobs, all) {
        uint64_t deadline = message_deadline(world, message_of_job(job));
        if (deadline > 0 && waits_for_session(job) && world_wall(world) > deadline + late &&
            portal_now(worker->portal) > job->delivered_at + LATE_US)
            violate(world, message_of_job(job), "what is in hand is answered at its deadline",
                    "%s has it %.1f s after, in state %d", worker->name, (double)(world_wall(world) - deadline) / 1e6,
                    (int)job->state);
    }
}

/* Where sessions or saves fail and reads serve, a read lets one request in, not a whole prefetch of them, to be held.
 */
static void check_first(struct worker *worker, enum link_id link) {
    const struct portal *portal = worker->portal;
    const struct job *job;
    enum job_state last = link == LINK_STORE ? JOB_SAVING : JOB_CALLING;
    uint64_t since = worker->half_since[link];
    unsigned waiting = 0;
    if (since == 0 || worker->stalled_until + SECOND_US > worker->world->clock.now)
        return;
    TAILQ_FOREACH(job, &portal->jobs, all)
    waiting += job->state >= JOB_CONFIGURING && job->state <= last && job->delivered_at > since + SECOND_US;
    if (waiting > FIRST_FEW + worker->settings.hold_seconds / FIRST_EVERY)
        violate(worker->world, NULL, "in an outage one request goes first", "%s has taken in %u", worker->name,
                waiting);
}

static void check_probes(struct worker *worker) {
    struct world *world = worker->world;
    if (is_down_since(worker, LINK_STORE, PROBES_APART_US) && worker->database.up &&
        worker->stalled_until + PROBES_APART_US < world->clock.now && TAILQ_EMPTY(&worker->database.statements) &&
        world->clock.now - worker->submitted_at > PROBES_APART_US)
        violate(world, NULL, "in an outage somebody asks once a second whether it is over",
                "%s has not asked the database for %.1f s", worker->name,
                (double)(world->clock.now - worker->submitted_at) / 1e6);
    if (is_down_since(worker, LINK_STRIPE, PROBES_APART_US) &&
        worker->stalled_until + PROBES_APART_US < world->clock.now &&
        world->clock.now - worker->started_at > PROBES_APART_US)
        violate(world, NULL, "in an outage somebody asks once a second whether it is over", "%s has not for %.1f s",
                worker->name, (double)(world->clock.now - worker->started_at) / 1e6);
}

/* What the worker says of itself, for systemctl status and metrics. */
static void check_state(struct worker *worker) {
    struct world *world = worker->world;
    struct portal_state state;
    portal_state(worker->portal, &state);
    const struct link_pause *pauses[LINKS] = {&state.broker, &state.store, &state.stripe};
    if (state.in_hand != worker->portal->in_hand || state.intake != (worker->consumer.wanted != INTAKE_NONE))
        violate(world, NULL, "a worker says what it does", "%s does not", worker->name);
    for (size_t i = 0; i < LINKS; i++)
        if ((pauses[i]->cause != NULL) != worker->portal->links[i].down)
            violate(world, NULL, "a worker says what it waits for", "%s does not", worker->name);
}

void promise_step(struct world *world) {
    bool thorough = ++world->steps % 64 == 0;
    for (unsigned i = 0; i < world->scenario->workers; i++) {
        struct worker *worker = &world->workers[i];
        if (!worker_runs(worker) || worker->stalled_until > world->clock.now)
            continue;
        check_intake(worker);
        if (!thorough)
            continue;
        check_hold(worker);
        check_parting(worker);
        check_behind(worker);
        check_overdue(worker);
        check_first(worker, LINK_STORE);
        check_first(worker, LINK_STRIPE);
        check_probes(worker);
        check_state(worker);
    }
}

/* ---- the end ---- */

static const char *find_leak(const struct worker *worker) {
    const struct portal *portal = worker->portal;
    const struct configuration *configuration;
    if (!portal_idle(portal) || !TAILQ_EMPTY(&portal->jobs))
        return "requests in hand";
    for (size_t i = 0; i < JOB_STATES; i++)
        if (!TAILQ_EMPTY(&portal->queues[i]) || portal->counts[i] != 0)
            return "requests in a queue";
    if (portal->ids)
        return "request ids";
    if (portal->groups || !TAILQ_EMPTY(&portal->orphans))
        return "groups";
    if (portal->calls.underway_count != 0 || !TAILQ_EMPTY(&portal->calls.ready) ||
        !TAILQ_EMPTY(&portal->calls.waiting) || !TAILQ_EMPTY(&worker->calls))
        return "calls to Stripe";
    TAILQ_FOREACH(configuration, &portal->configurations, entry)
    if (configuration->walk != WALK_NONE && configuration->walk != WALK_UNKEPT)
        return "a look for a configuration";
    if (portal->timers.root)
        return "timers";
    if (!TAILQ_EMPTY(&worker->outbox.outgoing))
        return "publications";
    if (!TAILQ_EMPTY(&worker->database.statements) || !TAILQ_EMPTY(&worker->database.unconnected))
        return "statements";
    if (!TAILQ_EMPTY(&worker->consumer.parcels) || !TAILQ_EMPTY(&worker->consumer.lost))
        return "deliveries";
    return NULL;
}

static void check_worker(struct worker *worker) {
    struct world *world = worker->world;
    const char *leak = find_leak(worker);
    if (leak)
        violate(world, NULL, "nothing is left when all is done", "%s has %s", worker->name, leak);
    else if (worker->consumer.wanted == INTAKE_NONE || worker->consumer.there == INTAKE_NONE)
        violate(world, NULL, "a worker goes on by itself", "%s does not consume any more", worker->name);
}

static void check_message(struct world *world, const struct message *message) {
    if (message->state != MESSAGE_DONE)
        violate(world, message, "every request that reaches a worker is answered", "it is %s since %.0f s",
                message->state == MESSAGE_QUEUED ? "in the queue" : "with a worker",
                (double)(world->clock.now - message->sent_at) / 1e6);
    else if (oracle_is_owed_reply(message) && message->answers == 0)
        violate(world, message, "every request that reaches a worker is answered", "it is gone without an answer");
    else if (!oracle_is_owed_reply(message) && message->letters == 0)
        violate(world, message, "a reply_refused is dead-lettered", "it is gone without a trace");
}

static void check_configurations(struct world *world) {
    const struct scenario *scenario = world->scenario;
    char mark[64] = "";
    bool calm = scenario->fault_count == 0;
    for (unsigned product = 1; calm && product <= scenario->products; product++) {
        if (scenario->settings.policy == POLICY_PER_PRODUCT)
            (void)snprintf(mark, sizeof mark, "product/prod_%u", product);
        if (stripe_active_of_ours(world, mark) > 1)
            violate(world, NULL, "one configuration is made, not several", "%u with the mark \"%s\"",
                    stripe_active_of_ours(world, mark), mark);
    }
}

void promise_end(struct world *world) {
    for (unsigned i = 0; i < world->scenario->sending_count; i++)
        if (!world->scenario->sendings[i].dropped)
            check_message(world, &world->messages[i]);
    for (unsigned i = 0; i < world->scenario->workers; i++)
        if (!world->violated)
            check_worker(&world->workers[i]);
    check_configurations(world);
}
