/* configuration.c — which portal configuration a request gets: by policy, from memory, or once the walk has found it.
 */
#include "configuration.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json-text.h"
#include "portal-internal.h"

/* ---- those that this worker knows of ---- */

static struct configuration *make(struct portal *portal, char *key, size_t scope, bool per_product) {
    struct configuration *configuration = calloc(1, sizeof *configuration);
    if (!configuration)
        return NULL;
    configuration->portal = portal;
    configuration->key = key;
    configuration->scope = key + scope;
    configuration->per_product = per_product;
    TAILQ_INSERT_HEAD(&portal->configurations, configuration, entry);
    return configuration;
}

/* The job's one, made where it is new; NULL: no memory. */
static struct configuration *find(struct job *job) {
    struct portal *portal = job->portal;
    struct configuration *configuration;
    bool per_product = portal->settings.policy == POLICY_PER_PRODUCT;
    struct text text = {0};
    text_appendf(&text, "%s/%s/", portal->settings.account, portal->settings.livemode ? "live" : "test");
    size_t scope = text.length;
    text_appendf(&text, "%s%s", per_product ? "product/" : "shared", per_product ? job->load.team.product : "");
    char *key = text_take(&text);
    if (!key)
        return NULL;
    TAILQ_FOREACH(configuration, &portal->configurations, entry)
    if (strcmp(configuration->key, key) == 0)
        break;
    if (configuration) {
        free(key);
        return configuration;
    }
    configuration = make(portal, key, scope, per_product);
    if (!configuration)
        free(key);
    return configuration;
}

void configurations_free(struct portal *portal) {
    struct configuration *configuration;
    while ((configuration = TAILQ_FIRST(&portal->configurations))) {
        TAILQ_REMOVE(&portal->configurations, configuration, entry);
        walk_clear(configuration);
        free(configuration->key);
        free(configuration->id);
        free(configuration->product);
        free(configuration->fingerprint);
        free(configuration);
    }
}

/* ---- who waits ---- */

static struct job *first_waiting(const struct configuration *configuration) {
    struct job *job;
    TAILQ_FOREACH(job, &configuration->portal->queues[JOB_CONFIGURING], queue)
    if (job->wanted == configuration)
        break;
    return job;
}

static void stop_waiting(struct job *job) {
    if (job->wanted && job->wanted->asker == job)
        job->wanted->asker = NULL;
    job->wanted = NULL;
}

void configuration_leave(struct job *job) {
    stop_waiting(job);
}

static void use(struct job *job, const char *id) {
    char *copy = strdup(id);
    free(job->configuration);
    job->configuration = copy;
    if (copy)
        job_configured(job);
    else
        job_give_back(job);
}

void configuration_known(struct configuration *configuration) {
    struct job *job;
    while ((job = first_waiting(configuration))) {
        stop_waiting(job);
        use(job, configuration->id);
    }
    portal_turn_soon(configuration->portal);
}

void configuration_fail_asker(struct configuration *configuration, enum code code, const char *message,
                              const char *stripe_request_id) {
    struct job *job = configuration->asker;
    if (!job)
        return;
    stop_waiting(job);
    job_fail(job, code, message, stripe_request_id);
}

void configuration_fail_all(struct configuration *configuration, enum code code, const char *message,
                            const char *stripe_request_id) {
    struct job *job;
    while ((job = first_waiting(configuration))) {
        stop_waiting(job);
        job_fail(job, code, message, stripe_request_id);
    }
}

/* ---- keeping up to date ---- */

char *configuration_fingerprint(const struct configuration *configuration, const json_t *prices) {
    AUTOFREE char *dump = json_text_write(prices, JSON_COMPACT);
    struct text text = {0};
    if (!dump)
        return NULL;
    text_appendf(&text, "%016" PRIx64 "/%016" PRIx64, configuration->portal->features_fingerprint,
                 fingerprint_of(dump));
    return text_take(&text);
}

/* One that the worker manages follows the features, and, where it is a product's own, the prices. */
static bool is_due(const struct configuration *configuration) {
    const struct portal *portal = configuration->portal;
    uint64_t now = portal_now(portal);
    char features[24];
    if (!configuration->managed || configuration->walk != WALK_NONE || portal->draining ||
        now < configuration->refresh_from)
        return false;
    (void)snprintf(features, sizeof features, "%016" PRIx64 "/", portal->features_fingerprint);
    if (!configuration->fingerprint || strncmp(configuration->fingerprint, features, strlen(features)) != 0)
        return true;
    return configuration->per_product && now - configuration->checked_at >= portal->settings.prices_seconds * SECOND;
}

/* ---- what jobs ask for ---- */

static void wait_for(struct job *job, struct configuration *configuration) {
    job->wanted = configuration;
    job->waited = true;
    job_enter(job, JOB_CONFIGURING);
}

void configuration_resolve(struct job *job) {
    const struct portal_settings *settings = &job->portal->settings;
    if (job->request.configuration || settings->policy == POLICY_FIXED) {
        use(job, job->request.configuration ? job->request.configuration : settings->fixed_configuration);
        return;
    }
    struct configuration *configuration = find(job);
    if (!configuration) {
        job_give_back(job);
        return;
    }
    if (!configuration->id) {
        wait_for(job, configuration);
        return;
    }
    if (is_due(configuration))
        walk_refresh(configuration);
    use(job, configuration->id);
}

void configuration_forget(struct job *job) {
    struct portal *portal = job->portal;
    struct configuration *configuration = find(job);
    if (!configuration) {
        job_give_back(job);
        return;
    }
    if (!configuration->id) {
        wait_for(job, configuration);
        return;
    }
    if (strcmp(configuration->id, job->configuration) != 0) {
        use(job, configuration->id); /* somebody was quicker */
        return;
    }
    portal_tell(portal, &(struct event){.kind = EVENT_CONFIGURATION,
                                        .configuration = configuration->id,
                                        .text = "no longer taken by Stripe: forgotten, looked up anew"});
    text_replace(&configuration->stale, configuration->id);
    configuration->id = NULL;
    if (configuration->refreshing)
        walk_abort(configuration);
    wait_for(job, configuration);
}

static void begin_walk(struct configuration *configuration, struct job *job) {
    if (configuration->stale) {
        walk_forget(configuration);
        return;
    }
    text_replace(&configuration->asked_product, strdup(job->load.team.product));
    if (!configuration->asked_product) {
        job_give_back(job);
        return;
    }
    configuration->asker = job;
    walk_find(configuration);
}

void configurations_turn(struct portal *portal) {
    struct configuration *configuration;
    if (portal->counts[JOB_CONFIGURING] == 0 || portal->links[LINK_STORE].down)
        return;
    TAILQ_FOREACH(configuration, &portal->configurations, entry) {
        struct job *job = first_waiting(configuration);
        if (job && configuration->walk == WALK_UNKEPT)
            walk_keep_again(configuration);
        else if (job && configuration->walk == WALK_NONE)
            begin_walk(configuration, job);
    }
}

void configurations_reconfigured(struct portal *portal) {
    struct configuration *configuration;
    TAILQ_FOREACH(configuration, &portal->configurations, entry)
    configuration->refresh_from = 0;
}

void configurations_let_go(struct portal *portal) {
    struct configuration *configuration;
    TAILQ_FOREACH(configuration, &portal->configurations, entry)
    walk_abort(configuration);
}

bool configurations_settled(const struct portal *portal) {
    const struct configuration *configuration;
    TAILQ_FOREACH(configuration, &portal->configurations, entry)
    if (configuration->walk != WALK_NONE && configuration->walk != WALK_QUEUEING && configuration->walk != WALK_UNKEPT)
        return false;
    return true;
}
