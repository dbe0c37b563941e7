/* sharing.c — the session: requests of one shape that are in hand together share one call. The first leads and calls
 * under its own idempotency key, the others follow. */
#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "portal-internal.h"
#include "portal/form.h"

/* ---- groups ---- */

static int compare_shapes(const void *a, const void *b) {
    return strcmp(((const struct group *)a)->shape, ((const struct group *)b)->shape);
}

/* Account and mode are the same for all that one worker does. JSON holds no control characters, so none is ambiguous.
 */
static char *shape_of(const struct job *job) {
    struct text text = {0};
    text_appendf(&text, "%s\x1f%s\x1f%s", job->request.ask, job->configuration, job->load.team.customer);
    return text_take(&text);
}

static struct group *find_group(const struct job *job, char *shape) {
    struct group key = {.shape = shape};
    struct group **found = tfind(&key, &job->portal->groups, compare_shapes);
    return found ? *found : NULL;
}

/* Takes the shape over. */
static struct group *open_group(struct job *job, char *shape) {
    struct group *group = calloc(1, sizeof *group);
    if (!group)
        return NULL;
    group->shape = shape;
    group->leader = job;
    TAILQ_INIT(&group->followers);
    if (!tsearch(group, &job->portal->groups, compare_shapes)) {
        free(group);
        return NULL;
    }
    job->group = group;
    return group;
}

static void free_group(struct portal *portal, struct group *group) {
    assert(!group->leader && TAILQ_EMPTY(&group->followers));
    if (group->orphaned)
        TAILQ_REMOVE(&portal->orphans, group, orphan);
    (void)tdelete(group, &portal->groups, compare_shapes);
    session_clear(&group->session);
    free(group->shape);
    free(group);
}

/* The first follower, no longer one. */
static struct job *take_follower(struct group *group) {
    struct job *job = TAILQ_FIRST(&group->followers);
    if (job) {
        TAILQ_REMOVE(&group->followers, job, member);
        job->group = NULL;
    }
    return job;
}

void sharing_leave(struct job *job) {
    struct group *group = job->group;
    struct portal *portal = job->portal;
    if (!group)
        return;
    job->group = NULL;
    if (group->leader != job) {
        TAILQ_REMOVE(&group->followers, job, member);
        if (!group->leader && TAILQ_EMPTY(&group->followers))
            free_group(portal, group);
        return;
    }
    group->leader = NULL;
    session_clear(&group->session); /* it was the leader's, who could not commit it */
    if (TAILQ_EMPTY(&group->followers)) {
        free_group(portal, group);
        return;
    }
    group->orphaned = true;
    TAILQ_INSERT_TAIL(&portal->orphans, group, orphan);
    portal_turn_soon(portal);
}

static bool has_time_left(const struct job *job, const struct session *session) {
    uint64_t end = (uint64_t)(session->created + job->portal->settings.session_seconds - SESSION_MARGIN_SECONDS);
    return portal_database_now(job->portal) < end * SECOND;
}

/* Followers get the session only now that it is the leader's: until the commit it may turn out that the id was used
 * with another ask before, and that Stripe's session under that key is somebody else's. */
void sharing_committed(struct job *job) {
    struct group *group = job->group;
    struct job *follower;
    if (!group || group->leader != job)
        return;
    while (group->session.id && (follower = take_follower(group))) {
        if (has_time_left(follower, &group->session))
            job_give_session(follower, OUTCOME_REUSED, &group->session);
        else
            job_restart(follower);
    }
    job->portal->closings++;
    sharing_leave(job);
}

/* ---- the call ---- */

static const char *flow_text(const json_t *flow, const char *name) {
    return json_string_value(json_object_get(flow, name));
}

static void add_url(struct text *form, const char *name, const struct portal *portal, const char *path) {
    struct text url = {0};
    text_appendf(&url, "%s%s", portal->settings.base_url, path);
    AUTOFREE char *whole = text_take(&url);
    if (whole)
        form_add(form, name, whole);
    else
        form->failed = true;
}

static void add_after_completion(struct text *form, const struct portal *portal, const json_t *flow) {
    const json_t *after = json_object_get(flow, "after_completion");
    const char *path = flow_text(after, "return_path");
    form_add(form, "flow_data[after_completion][type]", flow_text(after, "type"));
    form_add(form, "flow_data[after_completion][hosted_confirmation][custom_message]",
             flow_text(after, "custom_message"));
    if (path)
        add_url(form, "flow_data[after_completion][redirect][return_url]", portal, path);
}

/* The contract's flat flow becomes Stripe's flow_data, where each type has an object of its own. */
static void add_flow(struct text *form, const struct portal *portal, const json_t *flow) {
    const char *type = flow_text(flow, "type");
    if (!type)
        return;
    form_add(form, "flow_data[type]", type);
    struct text nested = {0};
    text_appendf(&nested, "flow_data[%s]", type);
    AUTOFREE char *prefix = text_take(&nested);
    json_t *details = json_object();
    const json_t *retention = json_object_get(flow, "retention");
    int r = prefix && details ? 0 : -1;
    static const char *const plain[] = {"subscription", "items", "discounts"};
    for (size_t i = 0; r == 0 && i < sizeof plain / sizeof *plain; i++)
        if (json_object_get(flow, plain[i]))
            r = json_object_set(details, plain[i], json_object_get(flow, plain[i]));
    if (r == 0 && retention)
        r = json_object_set_new(details, "retention",
                                json_pack("{s:s s:{s:s}}", "type", flow_text(retention, "type"), "coupon_offer",
                                          "coupon", flow_text(retention, "coupon")));
    if (r == 0)
        form_add_json(form, prefix, details);
    else
        form->failed = true;
    json_decref(details);
    add_after_completion(form, portal, flow);
}

static char *session_form(const struct job *job) {
    struct text form = {0};
    form_add(&form, "customer", job->load.team.customer);
    form_add(&form, "configuration", job->configuration);
    add_url(&form, "return_url", job->portal, job->request.return_path);
    form_add(&form, "locale", job->request.locale);
    add_flow(&form, job->portal, job->request.flow);
    return text_take(&form);
}

/* The same for every worker that works this generation of the request, so that all find the same session. */
static char *session_key(const struct job *job) {
    struct text key = {0};
    text_appendf(&key, "portal:%s:%s:%u:%u", job->portal->settings.account, job->request.request_id, job->generation,
                 job->key_number);
    return text_take(&key);
}

static void session_called(struct errand *errand, enum errand_end end, const json_t *answer,
                           const struct refusal *refusal);

static void call(struct job *job) {
    struct errand *errand = &job->errand;
    free(errand->path);
    free(errand->form);
    free(errand->key);
    errand->portal = job->portal;
    errand->endpoint = ENDPOINT_SESSIONS;
    errand->post = true;
    errand->path = strdup("/v1/billing_portal/sessions");
    errand->form = session_form(job);
    errand->key = session_key(job);
    errand->team_id = job->load.team.id;
    errand->done = session_called;
    if (errand->path && errand->form && errand->key)
        errand_begin(errand);
    else
        job_give_back(job);
}

static void lead(struct job *job) {
    job_enter(job, JOB_CALLING);
    call(job);
}

/* ---- what became of the call ---- */

/* The leader is the first one still waiting: one whose deadline passes leaves, and its call with it. */
static void succeed(struct job *job, struct session *session) {
    if (job->group) {
        job->group->session = *session;
        *session = (struct session){0};
        session = &job->group->session;
    }
    job_give_session(job, OUTCOME_CREATED, session);
}

static void give_up(struct job *job, const struct refusal *refusal) {
    char text[900];
    refusal_text(refusal, text, sizeof text);
    sharing_leave(job);
    job_fail(job, CODE_STRIPE_UNAVAILABLE, text, refusal->request_id);
}

static void use_next_key(struct job *job, const struct refusal *refusal) {
    job->key_number++;
    /* a failure that Stripe remembers counts only if it has served others since; whatever else it says shows it at work
     */
    job->keys_walked += refusal->status < 500 || job->portal->calls.served > job->errand.served_before;
    if (job->keys_walked >= KEY_NUMBERS_MAX)
        give_up(job, refusal);
    else
        call(job);
}

static void refuse_all(struct job *job, const struct refusal *refusal) {
    char text[900];
    struct group *group = job->group;
    struct job *follower;
    refusal_text(refusal, text, sizeof text);
    while (group && (follower = take_follower(group)))
        job_fail(follower, CODE_STRIPE_ERROR, text, refusal->request_id);
    sharing_leave(job);
    job_fail(job, CODE_STRIPE_ERROR, text, refusal->request_id);
}

/* Stripe no longer takes the configuration. One that the worker chose is forgotten and looked up anew, once, for all.
 */
static void configure_again(struct job *job) {
    struct group *group = job->group;
    struct job *follower;
    while (group && (follower = take_follower(group))) {
        follower->configured_again = true;
        job_restart(follower);
    }
    sharing_leave(job);
    job->configured_again = true;
    job->key_number++; /* this one was used with the old configuration */
    configuration_forget(job);
}

static void refused(struct job *job, const struct refusal *refusal) {
    bool chosen = job->request.configuration || job->portal->settings.policy == POLICY_FIXED;
    if (strcmp(refusal->param, "configuration") == 0 && !chosen && !job->configured_again)
        configure_again(job);
    else
        refuse_all(job, refusal);
}

static void made(struct job *job, const json_t *answer, const struct refusal *exchange) {
    struct session session;
    struct refusal wrong = *exchange;
    bool https = !job->portal->settings.plain_http;
    int r = verdict_session(answer, job->load.team.customer, https, &session, &wrong);
    bool replayed = errand_replayed(&job->errand);
    if (r == 0 && !replayed && !has_time_left(job, &session))
        r = verdict_misbehaved(&wrong,
                               "the session was created too long ago; do the database's clock and Stripe's agree?");
    if (r == -ENOMEM)
        job_give_back(job);
    else if (r < 0 && !replayed)
        errand_retry(&job->errand, &wrong);
    else if (r < 0 || (replayed && !has_time_left(job, &session)))
        use_next_key(job, &wrong);
    else {
        if (replayed) /* another may have it by now, who asked under the same id for something else: see the save */
            sharing_leave(job);
        succeed(job, &session);
    }
    session_clear(&session);
}

static void session_called(struct errand *errand, enum errand_end end, const json_t *answer,
                           const struct refusal *refusal) {
    struct job *job = job_of_errand(errand);
    switch (end) {
    case ERRAND_DONE:
        made(job, answer, refusal);
        break;
    case ERRAND_REFUSED:
        refused(job, refusal);
        break;
    case ERRAND_USED_UP:
        use_next_key(job, refusal);
        break;
    case ERRAND_SPENT:
        give_up(job, refusal);
        break;
    }
}

/* ---- joining ---- */

static void follow(struct job *job, struct group *group) {
    job->group = group;
    TAILQ_INSERT_TAIL(&group->followers, job, member);
    job_enter(job, JOB_FOLLOWING);
}

void sharing_join(struct job *job) {
    if (job->request.fresh) {
        lead(job);
        return;
    }
    char *shape = shape_of(job);
    struct group *group = shape ? find_group(job, shape) : NULL;
    if (group)
        follow(job, group);
    else if (job->waited && job->closings_seen != job->portal->closings) {
        job->waited = false; /* while it waited a session was saved that may be its to reuse */
        job_restart(job);
    } else if (shape && open_group(job, shape)) {
        shape = NULL;
        lead(job);
    } else
        job_give_back(job);
    free(shape);
}

void sharing_turn(struct portal *portal) {
    struct group *group;
    while ((group = TAILQ_FIRST(&portal->orphans))) {
        struct job *job = take_follower(group);
        assert(job);
        TAILQ_REMOVE(&portal->orphans, group, orphan);
        group->orphaned = false;
        group->leader = job;
        job->group = group;
        lead(job);
    }
}
