/* job.c — the life of one request: taken in, judged once the store and Stripe have spoken, settled. */
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portal-internal.h"

/* ---- queues ---- */

static enum request_stage stage_of(enum job_state state) {
    static const enum request_stage stages[JOB_STATES] = {
        [JOB_SUSPECT] = STAGES,
        [JOB_HELD] = STAGES,
        [JOB_BEHIND] = STAGES,
        [JOB_TO_LOAD] = STAGE_LOADING,
        [JOB_LOADING] = STAGE_LOADING,
        [JOB_CONFIGURING] = STAGE_CONFIGURING,
        [JOB_FOLLOWING] = STAGE_CALLING,
        [JOB_CALLING] = STAGE_CALLING,
        [JOB_TO_SAVE] = STAGE_SAVING,
        [JOB_SAVING] = STAGE_SAVING,
        [JOB_TO_PUBLISH] = STAGE_REPLYING,
        [JOB_PUBLISHING] = STAGE_REPLYING,
        [JOB_REFUSED] = STAGE_REPLYING,
        [JOB_LEAVING] = STAGES,
    };
    return stages[state];
}

/* Puts the time since it began down to the stage it is in. */
static void end_stage(struct job *job) {
    uint64_t now = portal_now(job->portal);
    if (stage_of(job->state) < STAGES)
        job->stage_us[stage_of(job->state)] += now - job->stage_since;
    job->stage_since = now;
}

void job_enter(struct job *job, enum job_state state) {
    struct portal *portal = job->portal;
    if (stage_of(state) != stage_of(job->state))
        end_stage(job);
    TAILQ_REMOVE(&portal->queues[job->state], job, queue);
    portal->counts[job->state]--;
    job->state = state;
    TAILQ_INSERT_TAIL(&portal->queues[state], job, queue);
    portal->counts[state]++;
    portal_turn_soon(portal);
}

static int compare_ids(const void *a, const void *b) {
    return strcmp(((const struct job *)a)->request.request_id, ((const struct job *)b)->request.request_id);
}

/* The next delivery of the same request takes over, in the same node of the tree: that cannot fail. */
void job_release_id(struct job *job) {
    struct portal *portal = job->portal;
    struct job *other;
    if (!job->holds_id)
        return;
    job->holds_id = false;
    TAILQ_FOREACH(other, &portal->queues[JOB_BEHIND], queue)
    if (compare_ids(other, job) == 0)
        break;
    if (!other) {
        (void)tdelete(job, &portal->ids, compare_ids);
        return;
    }
    struct job **node = tfind(job, &portal->ids, compare_ids);
    *node = other;
    other->holds_id = true;
    job_enter(other, JOB_TO_LOAD);
}

/* Deliveries of one request are worked one after the other: the later one finds the answer of the first in the store.
 */
static void claim_id(struct job *job) {
    struct job **holder = tsearch(job, &job->portal->ids, compare_ids);
    if (!holder)
        job_give_back(job);
    else if (*holder != job)
        job_enter(job, JOB_BEHIND);
    else {
        job->holds_id = true;
        job_enter(job, JOB_TO_LOAD);
    }
}

/* ---- beginning ---- */

static void deadline_passed(struct timer *timer);

struct job *job_new(struct portal *portal, struct delivery *delivery) {
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->portal = portal;
    job->delivery = delivery;
    job->delivered_at = portal_now(portal);
    job->deadline.fire = deadline_passed;
    job->state = JOB_HELD;
    TAILQ_INSERT_TAIL(&portal->jobs, job, all);
    TAILQ_INSERT_TAIL(&portal->queues[JOB_HELD], job, queue);
    portal->counts[JOB_HELD]++;
    portal->in_hand++;
    return job;
}

static void refuse(struct job *job, const struct request_problem *problem) {
    if (strcmp(problem->code, "reply_refused") == 0) {
        job->replied = true; /* none is owed, none may be sent */
        if (job->delivery->oversized)
            publish_reject(job, problem->code, problem->message);
        else
            publish_letter(job, problem->code, problem->message);
        return;
    }
    job->rejecting = job->delivery->oversized;
    job_fail(job, strcmp(problem->code, "forbidden_sender") == 0 ? CODE_FORBIDDEN_SENDER : CODE_INVALID_REQUEST,
             problem->message, NULL);
}

static int read_message(struct job *job, struct request_problem *problem) {
    uint64_t now = portal_database_now(job->portal);
    return request_read(job->delivery, &job->portal->rules, now, &job->request, problem);
}

void job_begin(struct job *job) {
    struct request_problem problem;
    timers_unset(&job->portal->timers, &job->deadline);
    int r = job->request.ask ? 0 : read_message(job, &problem);
    if (r == -ENOMEM)
        job_give_back(job);
    else if (r < 0)
        refuse(job, &problem);
    else
        claim_id(job);
}

/* ---- the deadline ---- */

bool job_past_deadline(const struct job *job) {
    return job->request.deadline > 0 && portal_database_now(job->portal) >= job->request.deadline;
}

uint64_t job_arrived_at(const struct job *job) {
    return portal_database_now(job->portal) - (portal_now(job->portal) - job->delivered_at);
}

/* It may have been read before the database's clock was known, by one of this host that may be far off. */
static void correct_deadline(struct job *job) {
    if (job->request.deadline_from_arrival)
        job->request.deadline = job_arrived_at(job) + job->portal->settings.deadline_seconds * SECOND;
}

static void set_deadline(struct job *job) {
    if (job->request.deadline == 0)
        return;
    uint64_t now = portal_database_now(job->portal);
    uint64_t left = job->request.deadline > now ? job->request.deadline - now : 0;
    timers_set(&job->portal->timers, &job->deadline, portal_now(job->portal) + left);
}

bool job_watch_deadline(struct job *job) {
    struct request_problem problem;
    bool read = read_message(job, &problem) == 0;
    if (read)
        set_deadline(job);
    else
        request_clear(&job->request); /* job_begin() sees for itself */
    return read;
}

/* Only while the session is still to be made: what is saved or being replied is past it. */
static void deadline_passed(struct timer *timer) {
    struct job *job = (struct job *)((char *)timer - offsetof(struct job, deadline));
    if (job->state == JOB_HELD)
        suspects_overtake(job);
    if (job->state != JOB_CONFIGURING && job->state != JOB_FOLLOWING && job->state != JOB_CALLING)
        return;
    job_leave_work(job);
    job_fail(job, CODE_DEADLINE_EXCEEDED, NULL, NULL);
}

/* ---- deciding ---- */

static void reply_stored(struct job *job) {
    struct answer answer;
    int r = answer_read(&answer, job->load.stored.answer, job->load.stored.url);
    if (r == -ENOMEM) {
        job_give_back(job);
        return;
    }
    if (r < 0) { /* a row that somebody else wrote into: as good as none */
        job_fail(job, CODE_INTERNAL_ERROR, "The stored answer of this request can't be read", NULL);
        return;
    }
    answer_move(&job->answer, &answer);
    job->generation = job->load.stored.generation;
    publish_answer(job);
}

void job_loaded(struct job *job) {
    const struct load_row *row = &job->load;
    const struct request *request = &job->request;

    if (row->stored.found && !row->stored.same_ask) {
        job_fail(job, CODE_REQUEST_CONFLICT, NULL, NULL);
        return;
    }
    if (row->stored.found && row->stored.stands && row->stored.generation >= request->generation) {
        reply_stored(job);
        return;
    }
    /* The least one wanted may be further on than the next: then redeliveries still find this answer. */
    job->generation = row->stored.found ? row->stored.generation + 1 : 1;
    if (job->generation < request->generation)
        job->generation = request->generation;
    job->key_number = 0;

    correct_deadline(job);
    if (job_past_deadline(job)) {
        job_fail(job, CODE_DEADLINE_EXCEEDED, NULL, NULL);
        return;
    }
    enum code code = rules_apply(request, row, job->portal->settings.refused_statuses);
    if (code != CODE_NONE) {
        job_fail(job, code, NULL, NULL);
        return;
    }
    set_deadline(job);
    configuration_resolve(job);
}

static void take_reusable(struct job *job, struct session *session) {
    struct answer answer;
    if (answer_read(&answer, job->load.reusable.answer, job->load.reusable.url) < 0)
        return;
    (void)answer_get_session(&answer, session);
    answer_clear(&answer);
}

static bool is_return_url(const struct job *job, const char *url) {
    size_t length = strlen(job->portal->settings.base_url);
    return strncmp(url, job->portal->settings.base_url, length) == 0 &&
           strcmp(url + length, job->request.return_path) == 0;
}

/* Once the configuration is known so is the shape: an older session of it serves again, or one call for all of it. */
void job_configured(struct job *job) {
    struct session session = {0};
    if (job->load.reusable.answer)
        take_reusable(job, &session);
    if (session.id && strcmp(session.configuration, job->configuration) == 0 && is_return_url(job, session.return_url))
        job_give_session(job, OUTCOME_REUSED, &session);
    else
        sharing_join(job);
    session_clear(&session);
}

/* ---- answering ---- */

/* An answer is there: it is saved, if it is of the kind, and replied. */
static void answered(struct job *job) {
    timers_unset(&job->portal->timers, &job->deadline);
    if (code_is_stored(job->answer.code)) {
        job_enter(job, JOB_TO_SAVE);
        return;
    }
    job->generation = 0;
    publish_answer(job);
}

void job_fail(struct job *job, enum code code, const char *message, const char *stripe_request_id) {
    struct answer answer;
    bool redirect = code == CODE_UNAUTHENTICATED || code == CODE_NO_SUBSCRIPTION || code == CODE_SUBSCRIPTION_INACTIVE;
    int r = redirect ? answer_redirect(&answer, code, job->portal->settings.base_url)
                     : answer_failed(&answer, code, message, stripe_request_id);
    if (r < 0) {
        job_give_back(job);
        return;
    }
    answer_move(&job->answer, &answer);
    answered(job);
}

void job_give_session(struct job *job, enum outcome outcome, const struct session *session) {
    struct answer answer;
    if (answer_session(&answer, outcome, session, job->portal->settings.session_seconds) < 0) {
        job_give_back(job);
        return;
    }
    answer_move(&job->answer, &answer);
    answered(job);
}

void job_withhold(struct job *job) {
    sharing_leave(job); /* the next one leads */
    text_replace(&job->save_texts[SAVE_ANSWER], NULL);
    job_fail(job, CODE_DEADLINE_EXCEEDED, NULL, NULL);
}

void job_restart(struct job *job) {
    sharing_leave(job);
    answer_clear(&job->answer);
    text_replace(&job->save_texts[SAVE_ANSWER], NULL);
    free(job->configuration);
    job->configuration = NULL;
    job->generation = 0;
    if (job->holds_id)
        job_enter(job, JOB_TO_LOAD);
    else
        claim_id(job);
}

/* ---- ending ---- */

void job_leave_work(struct job *job) {
    if (job->state == JOB_CONFIGURING)
        configuration_leave(job);
    sharing_leave(job);
    errand_clear(&job->errand);
    timers_unset(&job->portal->timers, &job->deadline);
    timers_unset(&job->portal->timers, &job->retry);
    if (job->state == JOB_PUBLISHING)
        job->portal->broker.abandon(job->portal->broker.self, &job->publication);
}

/* While a batch is judged that came back, its jobs are still LOADING or SAVING, but may go. */
static bool is_with_store(const struct job *job) {
    const struct portal *portal = job->portal;
    return (job->state == JOB_LOADING && portal->loads.underway) ||
           (job->state == JOB_SAVING && portal->saves.underway) || job->suspect_task.done;
}

void job_give_back(struct job *job) {
    if (job->state == JOB_LEAVING)
        return;
    if (is_with_store(job)) {
        job->leaving = true; /* the store has it: once that returns */
        return;
    }
    job_leave_work(job);
    job_settle(job, SETTLE_GIVE_BACK);
}

/* Of the call that made the session or was refused, where this job made one; "" or NULL: none. */
static const char *stripe_request_id(const struct job *job, const json_t *error) {
    if (job->answer.outcome == OUTCOME_CREATED)
        return job->errand.exchange.request_id;
    return json_string_value(json_object_get(error, "stripe_request_id"));
}

static void tell_done(struct job *job, enum settlement settlement) {
    if (settlement == SETTLE_GIVE_BACK || !job->answer.json)
        return;
    uint64_t sent_at = job->delivery->timestamp <= UINT64_MAX / SECOND ? job->delivery->timestamp * SECOND : 0;
    uint64_t arrived_at = job_arrived_at(job);
    const json_t *error = json_object_get(job->answer.json, "error");
    end_stage(job);
    struct event event = {.kind = EVENT_REQUEST_DONE,
                          .request_id = job->request.request_id,
                          .outcome = outcome_name(job->answer.outcome),
                          .code = code_name(job->answer.code),
                          .text = json_string_value(json_object_get(error, "message")),
                          .stripe_request_id = stripe_request_id(job, error),
                          .configuration = job->configuration,
                          .team_id = job->load.team.found ? job->load.team.id : job->request.team_id,
                          .user_id = job->request.user_id,
                          .generation = job->generation,
                          .status = job->answer.status,
                          .count = job->errand.attempts,
                          .duration_us = job->stage_since - job->delivered_at,
                          .queued_us = sent_at > 0 && sent_at < arrived_at ? arrived_at - sent_at : 0};
    memcpy(event.stage_us, job->stage_us, sizeof event.stage_us);
    portal_tell(job->portal, &event);
}

void job_settle(struct job *job, enum settlement settlement) {
    if (suspects_end(job, settlement))
        return;
    tell_done(job, settlement);
    if (settlement == SETTLE_ACKNOWLEDGE && job->portal->store_trial)
        store_trial_passed(job->portal);
    job->portal->broker.settle(job->portal->broker.self, job->delivery, settlement);
    job->delivery = NULL;
    job_destroy(job);
}

/* Unsettled deliveries belong to the broker link, which ends with its connection. */
void job_destroy(struct job *job) {
    struct portal *portal = job->portal;
    if (!portal->freeing)
        job_release_id(job);
    else if (job->holds_id)
        (void)tdelete(job, &portal->ids, compare_ids);
    job_leave_work(job);
    if (portal->alone == job)
        portal->alone = NULL;
    TAILQ_REMOVE(&portal->jobs, job, all);
    TAILQ_REMOVE(&portal->queues[job->state], job, queue);
    portal->counts[job->state]--;
    portal->in_hand--;
    request_clear(&job->request);
    load_row_clear(&job->load);
    save_row_clear(&job->save);
    for (size_t i = 0; i < SAVE_TEXTS; i++)
        free(job->save_texts[i]);
    answer_clear(&job->answer);
    free(job->configuration);
    free(job->letter_error);
    free(job);
    portal_turn_soon(portal);
}

struct job *job_of_errand(struct errand *errand) {
    return (struct job *)((char *)errand - offsetof(struct job, errand));
}
