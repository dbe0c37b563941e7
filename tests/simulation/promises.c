/* promises.c — what DESIGN.md promises of messages, replies and acknowledgements, checked at the moment a worker acts.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portal/event.h"
#include "promises.h"
#include "world.h"

void violate(struct world *world, const struct message *message, const char *promise, const char *format, ...) {
    if (world->violated)
        return;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(world->explanation, sizeof world->explanation, format, arguments);
    va_end(arguments);
    world->violated = true;
    world->promise = promise;
    world->about = message ? (int64_t)message->index : -1;
    TRACE(world, message, "BROKEN: %s: %s", promise, world->explanation);
}

/* How wrong a worker's idea of the database's time may be: the answer that told it was under way for so long. */
uint64_t promise_tolerance_us(const struct world *world) {
    uint64_t tolerance = 25 * world->scenario->net_us + SECOND_US;
    if (world->scenario->faults_of_kind[FAULT_STALL] > 0)
        tolerance += 95 * SECOND_US;
    return tolerance;
}

/* ---- what a reply says ---- */

struct reply {
    uint32_t generation;
    enum code code;
    enum outcome outcome;
    int64_t session; /* -1: none */
    uint64_t created;
    uint64_t hash;
};

/* What follows `name` in a compact JSON text; NULL where it is not there. */
static const char *after(const char *text, const char *name) {
    const char *found = strstr(text, name);
    return found ? found + strlen(name) : NULL;
}

static bool begins(const char *text, const char *with) {
    return text && strncmp(text, with, strlen(with)) == 0;
}

static bool read_code(const char *text, enum code *code) {
    for (int i = CODE_NONE + 1; i <= CODE_POISONOUS; i++) {
        const char *name = code_name((enum code)i);
        if (begins(text, name) && text[strlen(name)] == '"') {
            *code = (enum code)i;
            return true;
        }
    }
    return false;
}

static bool read_reply(const char *body, size_t length, struct reply *reply) {
    static const char *const outcomes[] = {"created\"", "reused\"", "redirect\"", "failed\""};
    const char *generation = after(body, "\"generation\":");
    const char *outcome = after(body, "\"outcome\":\"");
    const char *session = after(body, "\"session\":{\"id\":\"bps_");
    const char *created = after(body, "\"created\":");
    const char *failed = after(body, "\"error\":{\"code\":\""), *redirected = strstr(body, "\"redirect\":{");
    *reply = (struct reply){.session = -1, .hash = hash_bytes(body, length)};
    if (!generation || !outcome)
        return false;
    reply->generation = (uint32_t)strtoul(generation, NULL, 10); /* null: 0 */
    for (int i = OUTCOME_CREATED; i <= OUTCOME_FAILED; i++)
        if (begins(outcome, outcomes[i]))
            reply->outcome = (enum outcome)i;
    if (session)
        reply->session = (int64_t)strtoul(session, NULL, 10);
    if (session && created)
        reply->created = strtoul(created, NULL, 10);
    if (redirected)
        return read_code(after(redirected, "\"code\":\""), &reply->code);
    return !failed || read_code(failed, &reply->code);
}

/* ---- sessions ---- */

/* The one that the request or the settings choose, or that of the team's product; where all share one, whichever. */
static void check_configuration(struct world *world, const struct message *message, const struct world_session *session,
                                unsigned team) {
    const struct scenario *scenario = world->scenario;
    char mark[64];
    (void)snprintf(mark, sizeof mark, "product/prod_%u", scenario->team_products[team]);
    bool chosen = message->plan->ask.configuration != CHOSEN_NONE || scenario->settings.policy == POLICY_FIXED;
    bool right = chosen ? session->configuration == 0
                        : scenario->settings.policy == POLICY_SHARED ||
                              strcmp(stripe_mark(world, session->configuration), mark) == 0;
    if (!right)
        violate(world, message, "a session has the configuration that the policy names", "bpc_%u, marked \"%s\"",
                session->configuration, stripe_mark(world, session->configuration));
}

/* Of those that share it, one. */
static void check_creator(struct world *world, const struct message *message, struct world_session *session) {
    if (session->created_for && session->creator != message->plan->id)
        violate(world, message, "a session is created for one request and reused by the others", "and for r%u",
                session->creator);
    session->created_for = true;
    session->creator = message->plan->id;
}

static void check_session(struct world *world, const struct message *message, const struct reply *reply) {
    static const char *const only_his = "a session is given to nobody but who asked for it";
    struct world_session *session = stripe_session(world, reply->session);
    const struct sending *plan = message->plan;
    if (!session) {
        violate(world, message, only_his, "bps_%lld was never made", (long long)reply->session);
        return;
    }
    unsigned team = oracle_team(world, message);
    uint64_t until = (session->created + world->scenario->settings.session_seconds) * SECOND_US;
    if (session->customer % CUSTOMER_STEP != team)
        violate(world, message, only_his, "bps_%lld is of cus_%u, the team is %u", (long long)reply->session,
                session->customer, team);
    else if (session->path != plan->ask.path || session->locale != plan->ask.locale || session->flow != plan->ask.flow)
        violate(world, message, only_his, "bps_%lld is for another return_path, locale or flow",
                (long long)reply->session);
    else if (session->handed && !ask_equal(&session->ask, &plan->ask))
        violate(world, message, only_his, "bps_%lld was given for another ask before (request r%u)",
                (long long)reply->session, session->id);
    else if (session->handed && session->id != plan->id && (session->fresh || plan->fresh) &&
             !world->requests[plan->id].mixed && !world->requests[session->id].mixed)
        violate(world, message, "a session made for a fresh request is given to no other",
                "bps_%lld was given to r%u before", (long long)reply->session, session->id);
    else if (world_wall(world) + SESSION_MARGIN_SECONDS * SECOND_US > until + promise_tolerance_us(world))
        violate(world, message, "no session is handed out with less than 60 s left",
                "bps_%lld, made at %llu, is handed out at %llu", (long long)reply->session,
                (unsigned long long)session->created, (unsigned long long)world_seconds(world));
    check_configuration(world, message, session, team);
    if (reply->outcome == OUTCOME_CREATED)
        check_creator(world, message, session);
    if (!session->handed) {
        session->handed = true;
        session->ask = plan->ask;
        session->id = plan->id;
        session->fresh = plan->fresh;
    }
}

/* ---- what was said before ---- */

static void check_said(struct world *world, const struct message *message, const struct reply *reply) {
    struct request_state *request = &world->requests[message->plan->id];
    struct said *said;
    for (said = request->said; said; said = said->next)
        if (said->generation == reply->generation)
            break;
    if (!said) {
        said = world_alloc(world, sizeof *said);
        *said = (struct said){request->said, reply->generation, reply->hash, reply->session};
        request->said = said;
        return;
    }
    if (said->session != reply->session)
        violate(world, message, "at most one session is handed out per request and generation",
                "generation %u: bps_%lld and bps_%lld", reply->generation, (long long)said->session,
                (long long)reply->session);
    else if (said->body_hash != reply->hash)
        violate(world, message, "every answer within a generation says the same", "generation %u", reply->generation);
}

/* ---- publishing ---- */

static bool is_committed(const struct world *world, const struct message *message, uint32_t generation, int64_t session,
                         enum code code) {
    const struct table_row *row = world->requests[message->plan->id].row;
    if (!row || row->generation < generation)
        return false;
    return row->generation > generation || (row->session == session && row->code == code);
}

/* The tries of a message go when it is given up, also those of one that is just like it: should it come again, it may
 * crash again. */
static void forget_crashes(struct world *world, uint32_t id) {
    for (unsigned i = 0; i < world->scenario->sending_count; i++)
        if (world->messages[i].plan->id == id)
            world->messages[i].crashes = 0;
}

void promise_told(struct world *world, const struct message *message, const char *text) {
    if (text && strstr(text, "https://billing.stripe.com/"))
        violate(world, message, "no portal URL is ever logged", "%s", text);
}

static void check_letter(struct world *world, const struct parcel *parcel, const struct dead_letter *letter) {
    static const char *const promise = "a dead letter says why, and what a replay has to ask for";
    const struct message *message = parcel->message;
    promise_told(world, message, letter->error);
    if (strcmp(letter->reason, "poisonous") == 0)
        forget_crashes(world, message->plan->id);
    if (!oracle_is_owed_reply(message)) {
        if (strcmp(letter->reason, "reply_refused") != 0 && strcmp(letter->reason, "poisonous") != 0)
            violate(world, message, promise, "reason %s", letter->reason);
        return;
    }
    const char *code = code_name(parcel->code);
    if (!code || strcmp(letter->reason, code) != 0)
        violate(world, message, promise, "reason %s after an answer %s", letter->reason, code ? code : "none");
    else if (letter->next_generation <= parcel->generation)
        violate(world, message, promise, "next generation %u after %u", letter->next_generation, parcel->generation);
}

/* Where the message does not say it the deadline counts from when it comes, which is not before it is sent. */
static void check_deadline(struct world *world, const struct message *message) {
    uint64_t deadline = message_deadline(world, message), tolerance = promise_tolerance_us(world);
    if (world->scenario->faults_of_kind[FAULT_STORE_SLOW] > 0)
        tolerance += 30 * SECOND_US; /* so long may a load take, and with it word of the time */
    if (deadline == 0)
        deadline = WORLD_EPOCH * SECOND_US + message->sent_at + world->scenario->settings.deadline_seconds * SECOND_US;
    if (world_wall(world) + tolerance < deadline)
        violate(world, message, "nobody is told too early that the deadline has passed", "%.1f s before it",
                (double)(deadline - world_wall(world)) / 1e6);
}

static void check_reply(struct world *world, struct parcel *parcel, const struct publication *publication) {
    const struct message *message = parcel->message;
    struct reply reply;
    if (!oracle_is_owed_reply(message)) {
        violate(world, message, "reply_refused is not answered", "a reply to \"%s\"", publication->delivery->reply_to);
        return;
    }
    if (!read_reply(publication->body, publication->body_length, &reply)) {
        violate(world, message, "a reply is worded as the contract says", "%.300s", publication->body);
        return;
    }
    TRACE(world, message, "%s replies: %.*s", parcel->worker->name, (int)publication->body_length, publication->body);
    world->statistics->replies++;
    world->statistics->codes[reply.code]++;
    world->statistics->outcomes[reply.outcome]++;
    if (!(oracle_codes(world, message) & (UINT32_C(1) << reply.code)))
        violate(world, message, "a request is answered as the contract says", "%.400s", publication->body);
    if (oracle_is_stored(reply.code) && reply.generation == 0)
        violate(world, message, "a reply is worded as the contract says", "no generation: %.300s", publication->body);
    else if (oracle_is_stored(reply.code) && !is_committed(world, message, reply.generation, reply.session, reply.code))
        violate(world, message, "an answer is committed before it is replied", "generation %u", reply.generation);
    if (reply.code == CODE_DEADLINE_EXCEEDED)
        check_deadline(world, message);
    if (reply.session >= 0)
        check_session(world, message, &reply);
    if (reply.generation > 0)
        check_said(world, message, &reply);
    if (reply.generation > 0 && reply.generation < message->plan->generation)
        violate(world, message, "a replay gets the generation that it wants", "%u instead of %u", reply.generation,
                message->plan->generation);
    parcel->code = reply.code;
    parcel->generation = reply.generation;
    parcel->session = reply.session;
    parcel->session_created = reply.created;
}

void promise_published(struct world *world, struct parcel *parcel, const struct publication *publication) {
    if (publication->letter)
        check_letter(world, parcel, publication->letter);
    else
        check_reply(world, parcel, publication);
}

/* ---- settling ---- */

void promise_refused(struct world *world, struct parcel *parcel) {
    parcel->may_give_up |= parcel->worker->portal->counts[JOB_REFUSED] >= world->scenario->settings.concurrency / 4;
    if (parcel->refused_at == 0)
        parcel->refused_at = world->clock.now;
}

/* It counts as returned if too many wait, or its answer no longer stands. */
static bool counts_as_returned(const struct world *world, const struct parcel *parcel) {
    uint64_t stood = parcel->session >= 0 ? parcel->session_created - WORLD_EPOCH : parcel->refused_at / SECOND_US;
    uint64_t stands = parcel->session >= 0 ? world->scenario->settings.session_seconds - SESSION_MARGIN_SECONDS
                                           : ANSWER_STANDS_SECONDS;
    return parcel->may_give_up ||
           world->clock.now + promise_tolerance_us(world) + SECOND_US >= (stood + stands) * SECOND_US;
}

static bool reply_is_done(const struct world *world, const struct parcel *parcel) {
    return parcel->reply == OWED_CONFIRMED || parcel->reply == OWED_RETURNED ||
           (parcel->reply == OWED_REFUSED && counts_as_returned(world, parcel));
}

static const char *missing_for_acknowledgement(const struct world *world, const struct parcel *parcel) {
    const struct message *message = parcel->message;
    if (!oracle_is_owed_reply(message))
        return parcel->letter == OWED_CONFIRMED ? NULL : "portal.dead's confirm";
    if (!reply_is_done(world, parcel))
        return "the reply's confirm";
    if (oracle_is_stored(parcel->code) &&
        !is_committed(world, message, parcel->generation, parcel->session, parcel->code))
        return "the commit of its answer";
    if (oracle_is_dead_lettered(parcel->code) && parcel->letter != OWED_CONFIRMED)
        return "portal.dead's confirm";
    return NULL;
}

void promise_settled(struct world *world, const struct parcel *parcel, enum settlement settlement) {
    struct message *message = parcel->message;
    if (settlement == SETTLE_GIVE_BACK || parcel->handed->delivery.lost)
        return;
    if (settlement == SETTLE_REJECT) {
        if (message->plan->invalid != INVALID_SIZE || (oracle_is_owed_reply(message) && !reply_is_done(world, parcel)))
            violate(world, message, "a request is rejected only if the broker has to carry it, once it is answered",
                    "rejected");
    } else {
        const char *missing = missing_for_acknowledgement(world, parcel);
        if (missing)
            violate(world, message, "a request is acknowledged only after all it is owed", "%s is missing", missing);
    }
    if (parcel->reply == OWED_REFUSED)
        message->answers++; /* counts as returned */
}

void promise_rejected(struct world *world, const struct message *message) {
    if (message->plan->invalid != INVALID_SIZE)
        violate(world, message, "a request is rejected only if the broker has to carry it, once it is answered", "so");
}

void promise_delivered(struct world *world, const struct parcel *parcel) {
    const struct worker *worker = parcel->worker;
    const struct message *message = parcel->message;
    unsigned concurrency = world->scenario->settings.concurrency;
    if (worker_runs(worker) && worker->portal->in_hand > 3 * concurrency)
        violate(world, message, "memory is bounded by the prefetch", "%u in hand, prefetch %u", worker->portal->in_hand,
                concurrency);
    if (message->crashes > SUSPECT_DELIVERIES + POISONOUS_TRIES)
        violate(world, message, "a poisonous message ends after three tries of its own", "%u crashes",
                message->crashes);
}
