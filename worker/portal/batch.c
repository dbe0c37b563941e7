/* batch.c — loading and saving, many requests at a time: what comes in while one batch is under way makes the next. */
#include <stdlib.h>
#include <string.h>

#include "portal-internal.h"

/* ---- collecting ---- */

static void collect(struct batch *batch, enum job_state from, enum job_state to, unsigned limit) {
    struct portal *portal = batch->portal;
    struct job *job;
    batch->count = 0;
    while (batch->count < limit && (job = TAILQ_FIRST(&portal->queues[from]))) {
        batch->jobs[batch->count++] = job;
        job_enter(job, to);
    }
}

static void submit(struct batch *batch) {
    struct portal *portal = batch->portal;
    batch->underway = true;
    batch->begun_at = portal_now(portal);
    portal->store.submit(portal->store.self, &batch->task);
}

static void tell_batch(const struct batch *batch, const char *which) {
    struct portal *portal = batch->portal;
    portal_tell(portal, &(struct event){.kind = EVENT_BATCH,
                                        .link = which,
                                        .count = batch->count,
                                        .duration_us = portal_now(portal) - batch->begun_at});
}

/* A job that was to be given back while the store had it. Result: whether it was. */
static bool let_go(struct job *job, enum job_state back_to) {
    if (!job->leaving)
        return false;
    job_enter(job, back_to);
    job->leaving = false;
    job_give_back(job);
    return true;
}

/* The rows wait for the next batch, in front: they have waited longest. */
static void put_back(struct batch *batch, enum job_state to) {
    struct portal *portal = batch->portal;
    for (unsigned i = batch->count; i-- > 0;) {
        struct job *job = batch->jobs[i];
        job_enter(job, to);
        TAILQ_REMOVE(&portal->queues[to], job, queue);
        TAILQ_INSERT_HEAD(&portal->queues[to], job, queue);
    }
}

/* It may have been thought that the store fails. */
static void note_served(struct portal *portal) {
    if (portal->links[LINK_STORE].down)
        store_serves(portal);
}

/* ---- loading ---- */

static void loaded(struct store_task *task, enum store_status status) {
    struct batch *batch = (struct batch *)((char *)task - offsetof(struct batch, task));
    struct portal *portal = batch->portal;
    batch->underway = false;
    portal_turn_soon(portal);
    if (status == STORE_DONE) {
        portal_note_database_time(portal, task->database_now, batch->begun_at);
        note_served(portal);
        tell_batch(batch, "load");
        store_trial_loaded(portal);
    } else {
        put_back(batch, JOB_TO_LOAD);
        store_failed(portal, task, status);
    }
    for (unsigned i = 0; i < batch->count; i++) {
        struct job *job = batch->jobs[i];
        if (!let_go(job, JOB_TO_LOAD) && status == STORE_DONE)
            job_loaded(job);
    }
}

static void fill_load_row(struct job *job) {
    struct load_row *row = &job->load;
    load_row_clear(row);
    row->request_id = job->request.request_id;
    row->ask = job->request.ask;
    row->team_id = job->request.team_id;
    row->user_id = job->request.user_id;
    row->want_reuse = !job->request.fresh && job->portal->settings.session_reuse_seconds > 0;
    job->closings_seen = job->portal->closings;
}

static void load(struct portal *portal, unsigned limit) {
    struct batch *batch = &portal->loads;
    if (batch->underway || portal->counts[JOB_TO_LOAD] == 0)
        return;
    collect(batch, JOB_TO_LOAD, JOB_LOADING, limit);
    for (unsigned i = 0; i < batch->count; i++) {
        fill_load_row(batch->jobs[i]);
        batch->rows.load[i] = &batch->jobs[i]->load;
    }
    batch->task = (struct store_task){.kind = STORE_LOAD, .done = loaded};
    batch->task.load.rows = batch->rows.load;
    batch->task.load.count = batch->count;
    submit(batch);
}

/* ---- saving ---- */

static void save_done(struct job *job) {
    const struct save_row *row = &job->save;
    if (row->standing.written)
        publish_answer(job);
    else if (!row->standing.same_ask)
        job_fail(job, CODE_REQUEST_CONFLICT, NULL, NULL);
    else if (!row->standing.stands)
        job_restart(job);
    else {
        struct answer answer;
        int r = answer_read(&answer, row->standing.answer, row->standing.url);
        if (r < 0) {
            job_give_back(job);
            return;
        }
        answer_move(&job->answer, &answer);
        job->generation = row->standing.generation;
        publish_answer(job);
    }
}

static void bad_row(struct job *job, const struct store_task *task) {
    char message[400] = "The answer to this request could not be saved: ";
    strncat(message, task->error, sizeof message - strlen(message) - 1);
    text_make_utf8(message);
    sharing_leave(job);
    job_fail(job, CODE_INTERNAL_ERROR, message, NULL);
}

/* One row of the batch can't be kept. Halves it until that one stands alone; only that one fails. */
static void halve(struct batch *batch, const struct store_task *task) {
    if (batch->count > 1) {
        batch->limit = batch->count / 2;
        put_back(batch, JOB_TO_SAVE);
        return;
    }
    batch->limit = BATCH_MAX;
    if (!let_go(batch->jobs[0], JOB_TO_SAVE))
        bad_row(batch->jobs[0], task);
}

static void saved(struct store_task *task, enum store_status status) {
    struct batch *batch = (struct batch *)((char *)task - offsetof(struct batch, task));
    struct portal *portal = batch->portal;
    batch->underway = false;
    portal_turn_soon(portal);
    if (status == STORE_BAD_VALUE) {
        note_served(portal);
        halve(batch, task);
        return;
    }
    if (status == STORE_DONE) {
        portal_note_database_time(portal, task->database_now, batch->begun_at);
        note_served(portal);
        link_proven(portal, LINK_STORE);
        if (portal->store_trial)
            store_trial_passed(portal);
        if (batch->limit < BATCH_MAX)
            batch->limit *= 2;
        if (batch->limit > BATCH_MAX)
            batch->limit = BATCH_MAX;
        tell_batch(batch, "save");
    } else {
        put_back(batch, JOB_TO_SAVE);
        store_failed(portal, task, status);
    }
    for (unsigned i = 0; i < batch->count; i++) {
        struct job *job = batch->jobs[i];
        if (status == STORE_DONE && job->save.standing.written)
            sharing_committed(job);
        else if (status == STORE_DONE)
            sharing_leave(job);
        if (!let_go(job, JOB_TO_SAVE) && status == STORE_DONE)
            save_done(job);
    }
}

/* A text of its own; NULL: no memory. The body has no NUL at its end. */
static char *copy_body(const struct delivery *delivery) {
    char *copy = malloc(delivery->body_length + 1);
    if (!copy)
        return NULL;
    memcpy(copy, delivery->body, delivery->body_length);
    copy[delivery->body_length] = '\0';
    return copy;
}

/* The texts of a row that the job does not have already; kept over retries. Result: whether there was memory. */
static bool make_texts(struct job *job) {
    if (!job->save_texts[SAVE_ANSWER])
        job->save_texts[SAVE_ANSWER] = answer_write(&job->answer);
    if (!job->save_texts[SAVE_BODY])
        job->save_texts[SAVE_BODY] = copy_body(job->delivery);
    if (!job->save_texts[SAVE_PROPERTIES])
        job->save_texts[SAVE_PROPERTIES] = request_properties(job->delivery);
    return job->save_texts[SAVE_ANSWER] && job->save_texts[SAVE_BODY] && job->save_texts[SAVE_PROPERTIES];
}

static const char *session_text(const struct answer *answer, const char *name) {
    return json_string_value(json_object_get(json_object_get(answer->json, "session"), name));
}

static void fill_save_row(struct job *job) {
    const struct answer *answer = &job->answer;
    save_row_clear(&job->save);
    job->save = (struct save_row){
        .request_id = job->request.request_id,
        .generation = job->generation,
        .ask = job->request.ask,
        .answer = job->save_texts[SAVE_ANSWER],
        .outcome = outcome_name(answer->outcome),
        .code = code_name(answer->code),
        .team_id = job->load.team.found ? job->load.team.id : job->request.team_id,
        .user_id = job->request.user_id,
        .fresh = job->request.fresh,
        .session_id = session_text(answer, "id"),
        .url = answer->url,
        .customer = session_text(answer, "customer"),
        .configuration = session_text(answer, "configuration"),
        .session_created = answer->session_created,
        .stands_seconds = answer_stands_seconds(answer, job->portal->settings.session_seconds),
        .body = job->save_texts[SAVE_BODY],
        .properties = job->save_texts[SAVE_PROPERTIES],
    };
}

static void save(struct portal *portal, unsigned limit) {
    struct batch *batch = &portal->saves;
    struct job *job;
    if (batch->underway)
        return;
    batch->count = 0;
    while (batch->count < limit && (job = TAILQ_FIRST(&portal->queues[JOB_TO_SAVE]))) {
        if (job->answer.session_created > 0 && job_past_deadline(job)) {
            job_withhold(job);
            continue;
        }
        if (!make_texts(job)) {
            job_give_back(job);
            continue;
        }
        fill_save_row(job);
        batch->rows.save[batch->count] = &job->save;
        batch->jobs[batch->count++] = job;
        job_enter(job, JOB_SAVING);
    }
    if (batch->count == 0)
        return;
    batch->task = (struct store_task){.kind = STORE_SAVE, .done = saved};
    batch->task.save.rows = batch->rows.save;
    batch->task.save.count = batch->count;
    submit(batch);
}

/* ---- both ---- */

/* After an outage one request goes first, all its way, before the others are let into the store. */
static bool is_first(const struct portal *portal) {
    for (enum job_state state = JOB_LOADING; state <= JOB_SAVING; state++)
        if (portal->counts[state] > 0)
            return false;
    return true;
}

void batch_flush(struct portal *portal) {
    if (portal->links[LINK_STORE].down)
        return;
    if (!portal->store_trial || is_first(portal))
        load(portal, portal->store_trial ? 1 : BATCH_MAX);
    save(portal, portal->store_trial ? 1 : portal->saves.limit);
}

bool batch_try(struct portal *portal) {
    save(portal, 1);
    if (!portal->saves.underway)
        load(portal, 1);
    return portal->saves.underway || portal->loads.underway;
}
