/* publish.c — replies and dead letters: each is owed until the broker confirms it, or returns it; then the request is
 * acknowledged. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portal-internal.h"

enum {
    REFUSED_FIRST_MS = 200, /* backoff of a reply that its queue refuses: doubled, at most … */
    REFUSED_LAST_MS = 10000,
};

static struct job *job_of(struct publication *publication) {
    return (struct job *)((char *)publication - offsetof(struct job, publication));
}

/* A session's answer stands as long as its URL may be handed out; what is not a session does not spoil while it waits
 * for the broker. */
static bool still_stands(const struct job *job) {
    if (job->answer.session_created == 0)
        return true;
    uint64_t until =
        (uint64_t)(job->answer.session_created + job->portal->settings.session_seconds - SESSION_MARGIN_SECONDS) *
        SECOND;
    return portal_database_now(job->portal) < until;
}

/* Who waits for it, as another delivery of the same request, need not wait for the reply. */
void publish_answer(struct job *job) {
    timers_unset(&job->portal->timers, &job->deadline);
    job_release_id(job);
    job->replied = false;
    job->refusals = 0;
    job_enter(job, JOB_TO_PUBLISH);
}

void publish_letter(struct job *job, const char *reason, const char *error) {
    free(job->letter_error);
    job->letter_error = strdup(error);
    if (!job->letter_error) {
        job_give_back(job);
        return;
    }
    job->letter = (struct dead_letter){
        .reason = reason,
        .error = job->letter_error,
        .attempts = job->errand.attempts,
        .first_at = job_arrived_at(job),
        .last_at = portal_database_now(job->portal),
        .next_generation = job->generation > 0 ? job->generation + 1 : job->request.generation,
    };
    if (job->letter.next_generation == 0)
        job->letter.next_generation = 1;
    job_enter(job, JOB_TO_PUBLISH);
}

void publish_reject(struct job *job, const char *reason, const char *error) {
    if (!job->delivery->lost) /* else it comes again */
        portal_tell(job->portal, &(struct event){.kind = EVENT_DEAD_LETTER,
                                                 .request_id = job->request.request_id,
                                                 .code = reason,
                                                 .text = error});
    job_settle(job, SETTLE_REJECT);
}

/* The reply is done with. What is left is the dead letter, if one is owed, then the acknowledgement. */
static void reply_done(struct job *job) {
    job->replied = true;
    const json_t *error = json_object_get(job->answer.json, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    if (job->rejecting)
        publish_reject(job, code_name(job->answer.code), message);
    else if (code_is_dead_lettered(job->answer.code))
        publish_letter(job, code_name(job->answer.code), message ? message : "");
    else
        job_settle(job, SETTLE_ACKNOWLEDGE);
}

static void tell_returned(const struct job *job, const char *why) {
    portal_tell(job->portal, &(struct event){.kind = EVENT_REPLY_RETURNED,
                                             .request_id = job->request.request_id,
                                             .text = why,
                                             .generation = job->generation});
}

/* ---- a reply that its queue refuses ---- */

static void try_again(struct timer *timer) {
    struct job *job = (struct job *)((char *)timer - offsetof(struct job, retry));
    job_enter(job, JOB_TO_PUBLISH);
}

/* Counts as returned. */
static void give_up_reply(struct job *job) {
    tell_returned(job, "its queue refuses replies (basic.nack) or does not confirm them: is it full?");
    reply_done(job);
}

/* A failure stands five minutes; whoever did not hear of it by then can ask again. */
static bool is_refused_too_long(const struct job *job) {
    return job->refusals > 0 &&
           (!still_stands(job) || portal_now(job->portal) - job->refused_at >= ANSWER_STANDS_SECONDS * SECOND);
}

static void reply_refused(struct job *job) {
    struct portal *portal = job->portal;
    unsigned quarter = portal->settings.concurrency < 4 ? 1 : portal->settings.concurrency / 4;
    if (!still_stands(job) || is_refused_too_long(job) || portal->counts[JOB_REFUSED] >= quarter) {
        give_up_reply(job);
        return;
    }
    if (job->refusals == 0)
        job->refused_at = portal_now(portal);
    uint64_t wait_ms = REFUSED_FIRST_MS;
    for (unsigned i = 0; i < job->refusals && wait_ms < REFUSED_LAST_MS; i++)
        wait_ms *= 2;
    job->refusals++;
    job->retry.fire = try_again;
    uint64_t jitter = portal->host.random(portal->host.self) % (wait_ms * 500 + 1);
    timers_set(&portal->timers, &job->retry, portal_now(portal) + wait_ms * 500 + jitter);
    job_enter(job, JOB_REFUSED);
}

/* ---- what became of a publication ---- */

static void reply_published(struct publication *publication, enum publish_result result) {
    struct job *job = job_of(publication);
    switch (result) {
    case PUBLISH_CONFIRMED:
        reply_done(job);
        break;
    case PUBLISH_RETURNED:
        tell_returned(job, "no queue of that name (basic.return); its answer is kept in portal.sessions");
        reply_done(job);
        break;
    case PUBLISH_REFUSED:
        reply_refused(job);
        break;
    case PUBLISH_LOST:
        job_enter(job, JOB_TO_PUBLISH);
        break;
    }
}

/* A letter that portal.dead does not take stays owed: the request is not acknowledged before it does. */
static void letter_published(struct publication *publication, enum publish_result result) {
    struct job *job = job_of(publication);
    struct portal *portal = job->portal;
    if (result == PUBLISH_CONFIRMED) {
        portal_tell(portal, &(struct event){.kind = EVENT_DEAD_LETTER,
                                            .request_id = job->request.request_id,
                                            .code = job->letter.reason,
                                            .text = job->letter.error,
                                            .generation = job->letter.next_generation,
                                            .team_id = job->request.team_id});
        job_settle(job, SETTLE_ACKNOWLEDGE);
    } else if (result == PUBLISH_LOST)
        job_enter(job, JOB_TO_PUBLISH);
    else {
        job->retry.fire = try_again;
        timers_set(&portal->timers, &job->retry, portal_now(portal) + SECOND);
        job_enter(job, JOB_REFUSED);
    }
}

/* ---- publishing ---- */

static uint64_t expiration_ms(const struct job *job) {
    if (!job->answer.url)
        return 0;
    uint64_t expires = (uint64_t)(job->answer.session_created + job->portal->settings.session_seconds) * SECOND;
    uint64_t now = portal_database_now(job->portal);
    return expires > now + 1000 ? (expires - now) / 1000 : 1;
}

/* Result: 0, -EAGAIN where the broker has no room, -ENOMEM. */
static int publish(struct job *job) {
    struct portal *portal = job->portal;
    char *body = NULL;
    job->publication = (struct publication){.delivery = job->delivery};
    if (job->replied) {
        job->publication.letter = &job->letter;
        job->publication.done = letter_published;
    } else {
        body = answer_reply(&job->answer, job->request.request_id, job->generation);
        if (!body)
            return -ENOMEM;
        job->publication.body = body;
        job->publication.body_length = strlen(body);
        job->publication.expiration_ms = expiration_ms(job);
        job->publication.done = reply_published;
    }
    int r = portal->broker.publish(portal->broker.self, &job->publication);
    if (body)
        explicit_bzero(body, strlen(body));
    free(body);
    return r;
}

void publish_flush(struct portal *portal) {
    struct job *job;
    while ((job = TAILQ_FIRST(&portal->queues[JOB_TO_PUBLISH]))) {
        if (job->delivery->lost) {
            job_give_back(job); /* nobody is answered twice for nothing: it is delivered again */
            continue;
        }
        if (!job->replied && is_refused_too_long(job)) {
            give_up_reply(job);
            continue;
        }
        if (!job->replied && !still_stands(job)) {
            job_restart(job); /* it waited too long for the broker */
            continue;
        }
        int r = publish(job);
        if (r == -EAGAIN)
            return;
        if (r < 0)
            job_give_back(job);
        else
            job_enter(job, JOB_PUBLISHING);
    }
}
