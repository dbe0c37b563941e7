/* suspects.c — a request that came back often may be what crashes workers. It is worked alone, after its try is
 * committed: a try that a crash leaves behind counts, an orderly end removes it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "portal-internal.h"

enum { UNREAD_US = 5 * 1000 * 1000 }; /* how long one whose deadline is not known waits for a suspect */

static struct job *job_of(struct store_task *task) {
    return (struct job *)((char *)task - offsetof(struct job, suspect_task));
}

static void submit(struct job *job, enum store_kind kind, bool all,
                   void (*done)(struct store_task *, enum store_status)) {
    job->suspect_task = (struct store_task){.kind = kind, .done = done};
    job->suspect_task.suspect = (struct suspect){.message_id = job->delivery->message_id,
                                                 .body = job->delivery->body,
                                                 .body_length = job->delivery->body_length,
                                                 .worker = job->portal->settings.worker,
                                                 .all = all};
    job->portal->store.submit(job->portal->store.self, &job->suspect_task);
}

/* Whether everybody in hand waits, so that a crash takes nobody along. */
static bool nobody_works(const struct portal *portal) {
    return portal->in_hand == portal->counts[JOB_SUSPECT] + portal->counts[JOB_HELD] + portal->counts[JOB_REFUSED];
}

/* What comes while a suspect is being worked is not even read: should that crash the worker, the suspect would be
 * blamed. Nobody knows then how long it can wait, nor before the database has told the time, so it does not wait for
 * long. */
static void hold(struct job *job) {
    struct portal *portal = job->portal;
    job_enter(job, JOB_HELD);
    if (portal->alone || portal->database_at == 0 || !job_watch_deadline(job))
        timers_set(&portal->timers, &job->deadline, portal_now(portal) + UNREAD_US);
}

void suspects_admit(struct job *job) {
    struct portal *portal = job->portal;
    if (job->delivery->delivery_count >= SUSPECT_DELIVERIES && !job->delivery->oversized)
        job_enter(job, JOB_SUSPECT);
    else if (portal->alone || portal->counts[JOB_SUSPECT] > 0)
        hold(job);
    else
        job_begin(job);
}

/* Its answer is saved, only its reply is under way: nothing is left in it that crashes a worker. */
static bool is_harmless(const struct job *job) {
    return job->state == JOB_TO_PUBLISH || job->state == JOB_PUBLISHING || job->state == JOB_REFUSED;
}

/* Who is being worked alone goes back to the queue, with its try removed, and comes to its turn again; or, where it is
 * nearly done, is not alone any more: a reply that is refused for long would otherwise begin from the start each time.
 */
void suspects_overtake(struct job *job) {
    struct portal *portal = job->portal;
    job->urgent = true;
    TAILQ_REMOVE(&portal->queues[JOB_HELD], job, queue);
    TAILQ_INSERT_HEAD(&portal->queues[JOB_HELD], job, queue);
    if (portal->alone && is_harmless(portal->alone))
        portal->alone = NULL;
    else if (portal->alone)
        job_give_back(portal->alone);
    portal_turn_soon(portal);
}

/* Nothing of a poisonous message is read but its properties. */
static void give_up(struct job *job) {
    struct request_problem problem;
    request_id_from_message(&job->request, job->delivery);
    if (request_check_reply_to(job->delivery->reply_to, job->portal->rules.reply_queues, &problem) < 0) {
        job->replied = true;
        publish_letter(job, "poisonous", "This request crashed workers three times");
    } else
        job_fail(job, CODE_POISONOUS, NULL, NULL);
}

static void added(struct store_task *task, enum store_status status) {
    struct job *job = job_of(task);
    struct portal *portal = job->portal;
    task->done = NULL;
    portal_turn_soon(portal);
    job->tried |= status == STORE_DONE || status == STORE_LOST;
    if (status != STORE_DONE) {
        portal->alone = NULL; /* its turn comes again */
        store_failed(portal, task, status);
        if (job->leaving) {
            job->leaving = false;
            job_give_back(job);
        }
        return;
    }
    if (job->leaving) {
        job->leaving = false;
        job_give_back(job);
        return;
    }
    char text[96];
    (void)snprintf(text, sizeof text, "delivered %" PRIu64 " times before, worked alone, try %u of %d",
                   job->delivery->delivery_count, task->suspect.tries, POISONOUS_TRIES);
    portal_tell(portal, &(struct event){.kind = EVENT_SUSPECT,
                                        .request_id = job->delivery->message_id,
                                        .text = text,
                                        .count = task->suspect.tries});
    if (task->suspect.tries > POISONOUS_TRIES)
        give_up(job);
    else
        job_begin(job);
}

void suspects_turn(struct portal *portal) {
    struct job *job;
    if (portal->alone)
        return;
    while ((job = TAILQ_FIRST(&portal->queues[JOB_HELD])) && (job->urgent || portal->counts[JOB_SUSPECT] == 0))
        job_begin(job);
    job = TAILQ_FIRST(&portal->queues[JOB_SUSPECT]);
    if (!job || portal->links[LINK_STORE].down || !nobody_works(portal))
        return;
    portal->alone = job;
    submit(job, STORE_SUSPECT_ADD, false, added);
}

/* ---- the end ---- */

static void removed(struct store_task *task, enum store_status status) {
    struct job *job = job_of(task);
    struct portal *portal = job->portal;
    task->done = NULL;
    if (status != STORE_DONE) { /* tried again when the store serves: a try must not be counted for nothing */
        store_failed(portal, task, status);
        return;
    }
    job->tried = false;
    job_settle(job, job->ending);
}

/* A poisonous message leaves none of its tries behind. */
static void remove_try(struct job *job) {
    bool poisonous = job->letter.reason && strcmp(job->letter.reason, "poisonous") == 0;
    bool all = poisonous && job->ending == SETTLE_ACKNOWLEDGE;
    submit(job, STORE_SUSPECT_REMOVE, all, removed);
}

bool suspects_end(struct job *job, enum settlement settlement) {
    if (!job->tried)
        return false;
    job->ending = settlement;
    job_enter(job, JOB_LEAVING);
    remove_try(job);
    return true;
}

void suspects_store_up(struct portal *portal) {
    struct job *job;
    TAILQ_FOREACH(job, &portal->queues[JOB_LEAVING], queue)
    if (!job->suspect_task.done)
        remove_try(job);
}
