/* configuration-walk.c — the way to a configuration: the store, a lease so that one worker of the fleet looks, Stripe's
 * list, and where there is none the product, its prices, and a new one. One that is known is refreshed the same way. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "configuration.h"
#include "portal-internal.h"
#include "portal/form.h"
#include "request-internal.h"

enum {
    LEASE_SECONDS = 60,    /* longer than the walk takes while all is well; then another may go on with the same key */
    QUEUE_US = 200 * 1000, /* how often a lease that another has is asked for */
    REFRESH_US = 1000 * 1000,     /* between two refreshes of one configuration, at the least; … */
    REFUSED_US = 60 * 1000 * 1000 /* … where the first found that there is nothing to be had */
};

static void lease(struct configuration *configuration);
static void list(struct configuration *configuration);
static void read_product(struct configuration *configuration);
static void read_prices(struct configuration *configuration);
static void keep(struct configuration *configuration, char *id, char *product, char *fingerprint, bool managed);

/* ---- beginning and ending ---- */

static void end_walk(struct configuration *configuration) {
    configuration->walk = WALK_NONE;
    configuration->refreshing = false;
    configuration->asker = NULL;
    json_decref(configuration->prices);
    configuration->prices = NULL;
    text_replace(&configuration->cursor, NULL);
    text_replace(&configuration->writing, NULL);
    errand_clear(&configuration->errand);
    configuration_row_clear(&configuration->task.configuration);
    portal_turn_soon(configuration->portal);
}

void walk_clear(struct configuration *configuration) {
    timers_unset(&configuration->portal->timers, &configuration->timer);
    if (configuration->walk == WALK_FORGETTING)
        configuration->task.configuration.id = NULL; /* which is `stale` */
    end_walk(configuration);
    text_replace(&configuration->asked_product, NULL);
    text_replace(&configuration->stale, NULL);
}

static void submit(struct configuration *configuration) {
    configuration->portal->store.submit(configuration->portal->store.self, &configuration->task);
}

static void prepare(struct configuration *configuration, enum walk walk, enum store_kind kind,
                    void (*done)(struct store_task *, enum store_status)) {
    configuration->walk = walk;
    configuration_row_clear(&configuration->task.configuration);
    configuration->task = (struct store_task){.kind = kind, .done = done};
    configuration->task.configuration = (struct configuration_row){
        .key = configuration->key, .holder = configuration->portal->settings.worker, .lease_seconds = LEASE_SECONDS};
}

static struct configuration *of_task(struct store_task *task) {
    return (struct configuration *)((char *)task - offsetof(struct configuration, task));
}

/* The store could not: the walk ends, and begins again with whoever waits once the store serves. */
static bool store_did(struct configuration *configuration, const struct store_task *task, enum store_status status) {
    portal_turn_soon(configuration->portal);
    if (status == STORE_DONE)
        return true;
    store_failed(configuration->portal, task, status);
    end_walk(configuration);
    return false;
}

static void out_of_memory(struct configuration *configuration) {
    struct job *job = configuration->asker;
    end_walk(configuration);
    if (job)
        job_give_back(job);
}

static void released(struct store_task *task, enum store_status status) {
    struct configuration *configuration = of_task(task);
    if (store_did(configuration, task, status))
        end_walk(configuration);
}

/* Looked in vain: the next one may. */
static void release(struct configuration *configuration) {
    prepare(configuration, WALK_RELEASING, STORE_CONFIGURATION_RELEASE, released);
    submit(configuration);
}

/* ---- the store: is it known? ---- */

static void take_row(struct configuration *configuration, struct configuration_row *row) {
    free(configuration->id);
    free(configuration->product);
    free(configuration->fingerprint);
    configuration->id = row->id;
    configuration->product = row->product;
    configuration->fingerprint = row->fingerprint;
    configuration->managed = row->managed;
    row->id = row->product = row->fingerprint = NULL;
    uint64_t now = portal_now(configuration->portal), ago = row->checked_ago * SECOND;
    configuration->checked_at = ago < now ? now - ago : 0;
}

static void found(struct store_task *task, enum store_status status) {
    struct configuration *configuration = of_task(task);
    if (!store_did(configuration, task, status))
        return;
    configuration->forgotten = task->configuration.forgotten;
    if (!task->configuration.id) {
        lease(configuration);
        return;
    }
    take_row(configuration, &task->configuration);
    end_walk(configuration);
    configuration_known(configuration);
}

void walk_find(struct configuration *configuration) {
    configuration->key_number = 0;
    prepare(configuration, WALK_FINDING, STORE_CONFIGURATION_FIND, found);
    submit(configuration);
}

static void forgot(struct store_task *task, enum store_status status) {
    struct configuration *configuration = of_task(task);
    task->configuration.id = NULL; /* which is `stale` */
    if (!store_did(configuration, task, status))
        return;
    text_replace(&configuration->stale, NULL);
    end_walk(configuration); /* who waits finds it anew */
}

void walk_forget(struct configuration *configuration) {
    prepare(configuration, WALK_FORGETTING, STORE_CONFIGURATION_FORGET, forgot);
    configuration->task.configuration.id = configuration->stale;
    submit(configuration);
}

/* A call is stopped; what the store has is waited for, and its answer not taken over. */
void walk_abort(struct configuration *configuration) {
    if (configuration->walk < WALK_LISTING || configuration->walk > WALK_WRITING)
        return;
    errand_clear(&configuration->errand);
    release(configuration);
}

/* ---- the lease ---- */

static void ask_again(struct timer *timer) {
    lease((struct configuration *)((char *)timer - offsetof(struct configuration, timer)));
}

static void queue_up(struct configuration *configuration, uint32_t left_ms) {
    struct portal *portal = configuration->portal;
    uint64_t wait = left_ms * UINT64_C(1000) < QUEUE_US ? left_ms * UINT64_C(1000) : QUEUE_US;
    configuration->walk = WALK_QUEUEING;
    configuration->timer.fire = ask_again;
    timers_set(&portal->timers, &configuration->timer,
               portal_now(portal) + wait / 2 + portal->host.random(portal->host.self) % (wait / 2 + 1));
}

/* A refresh that somebody else has just done needs no more. */
static bool is_fresh(const struct configuration *configuration, const struct configuration_row *row) {
    return configuration->fingerprint && row->fingerprint &&
           row->checked_ago < configuration->portal->settings.prices_seconds &&
           strncmp(row->fingerprint, configuration->writing, strlen(configuration->writing)) == 0;
}

/* One that another worker has found gone and forgotten is not brought back by being refreshed. */
static void refresh_leased(struct configuration *configuration, struct configuration_row *row) {
    bool fresh = row->id && is_fresh(configuration, row), gone = !row->id;
    if (gone)
        text_replace(&configuration->id, NULL);
    else if (!configuration->stale)
        take_row(configuration, row);
    if (!row->leased)
        end_walk(configuration); /* somebody else is at it */
    else if (fresh || gone || configuration->stale || !configuration->product)
        release(configuration);
    else
        read_prices(configuration);
}

static void leased(struct store_task *task, enum store_status status) {
    struct configuration *configuration = of_task(task);
    struct configuration_row *row = &task->configuration;
    if (!store_did(configuration, task, status))
        return;
    configuration->forgotten = row->forgotten;
    bool granted = row->leased;
    if (configuration->refreshing)
        refresh_leased(configuration, row);
    else if (row->id) {
        take_row(configuration, row);
        if (granted)
            release(configuration);
        else
            end_walk(configuration);
        configuration_known(configuration);
    } else if (granted)
        list(configuration);
    else
        queue_up(configuration, row->retry_ms);
}

static void lease(struct configuration *configuration) {
    prepare(configuration, WALK_LEASING, STORE_CONFIGURATION_LEASE, leased);
    submit(configuration);
}

void walk_refresh(struct configuration *configuration) {
    struct text text = {0};
    text_appendf(&text, "%016" PRIx64 "/", configuration->portal->features_fingerprint);
    configuration->refreshing = true;
    configuration->refresh_from = portal_now(configuration->portal) + REFRESH_US;
    configuration->key_number = 0;
    configuration->writing = text_take(&text);
    if (configuration->writing)
        lease(configuration);
    else
        end_walk(configuration);
}

/* ---- calls ---- */

static struct configuration *of_errand(struct errand *errand) {
    return (struct configuration *)((char *)errand - offsetof(struct configuration, errand));
}

/* A failure that is not for one product alone. */
static void fail(struct configuration *configuration, enum code code, const struct refusal *refusal) {
    char text[900];
    refusal_text(refusal, text, sizeof text);
    if (configuration->refreshing) /* it serves as it is; the next refresh tries again */
        portal_tell(configuration->portal, &(struct event){.kind = EVENT_CONFIGURATION,
                                                           .configuration = configuration->id,
                                                           .text = text,
                                                           .status = refusal->status,
                                                           .stripe_request_id = refusal->request_id});
    else
        configuration_fail_all(configuration, code, text, refusal->request_id);
    release(configuration);
}

/* The product's own failures are its asker's. */
static void fail_asker(struct configuration *configuration, enum code code, const char *message,
                       const char *stripe_request_id) {
    if (!configuration->refreshing)
        configuration_fail_asker(configuration, code, message, stripe_request_id);
    release(configuration);
}

static void use_next_key(struct configuration *configuration, const struct refusal *refusal) {
    if (++configuration->key_number < KEY_NUMBERS_MAX)
        list(configuration); /* what the key was used for may be there */
    else
        fail(configuration, CODE_STRIPE_UNAVAILABLE, refusal);
}

/* It serves as it is; the next refresh would fail, too, unless somebody changes something. */
static void put_off_refresh(struct configuration *configuration) {
    if (configuration->refreshing)
        configuration->refresh_from = portal_now(configuration->portal) + REFUSED_US;
}

/* Everything that is not a usable answer. Result: whether it was one. */
static bool call_did(struct configuration *configuration, enum errand_end end, const struct refusal *refusal) {
    switch (end) {
    case ERRAND_DONE:
        return true;
    case ERRAND_REFUSED:
        put_off_refresh(configuration);
        if (configuration->walk == WALK_PRODUCT || configuration->walk == WALK_PRICES) {
            char text[900];
            refusal_text(refusal, text, sizeof text);
            fail_asker(configuration, CODE_STRIPE_ERROR, text, refusal->request_id);
        } else
            fail(configuration, CODE_STRIPE_ERROR, refusal);
        return false;
    case ERRAND_USED_UP:
        use_next_key(configuration, refusal);
        return false;
    case ERRAND_SPENT:
        fail(configuration, CODE_STRIPE_UNAVAILABLE, refusal);
        return false;
    }
    return false;
}

/* Begins a call; takes path, form and key over. */
static void call(struct configuration *configuration, enum walk walk, enum endpoint endpoint, char *path, char *form,
                 char *key, void (*done)(struct errand *, enum errand_end, const json_t *, const struct refusal *)) {
    struct errand *errand = &configuration->errand;
    bool post = walk == WALK_WRITING;
    bool keyed = post && !configuration->refreshing; /* an update needs no key: said twice it is the same */
    if (!path || (post && !form) || (keyed && !key)) {
        free(path);
        free(form);
        free(key);
        out_of_memory(configuration);
        return;
    }
    errand_clear(errand);
    configuration->walk = walk;
    *errand = (struct errand){.portal = configuration->portal,
                              .endpoint = endpoint,
                              .post = post,
                              .path = path,
                              .form = form,
                              .key = key,
                              .done = done};
    errand_begin(errand);
}

/* "<path>?<query>&limit=100", with starting_after from the second page on. */
static char *list_path(const struct configuration *configuration, const char *path, const char *product) {
    struct text query = {0}, whole = {0};
    form_add(&query, "active", "true");
    form_add(&query, "limit", "100");
    form_add(&query, "product", product);
    form_add(&query, "starting_after", configuration->cursor);
    AUTOFREE char *text = text_take(&query);
    if (!text)
        return NULL;
    text_appendf(&whole, "%s?%s", path, text);
    return text_take(&whole);
}

/* Remembers where the next page begins. Result: whether there was memory. */
static bool set_cursor(struct configuration *configuration, const json_t *data) {
    const json_t *last = json_array_get(data, json_array_size(data) - 1);
    text_replace(&configuration->cursor, strdup(json_string_value(json_object_get(last, "id"))));
    return configuration->cursor != NULL;
}

static void first_page(struct configuration *configuration) {
    text_replace(&configuration->cursor, NULL);
}

/* ---- Stripe's list ---- */

/* Policy `shared` takes the first active one, as the reference; a product's own is recognised by its metadata. */
static const json_t *choose(const struct configuration *configuration, const json_t *data) {
    size_t index;
    const json_t *element;
    if (!configuration->per_product)
        return json_array_get(data, 0);
    json_array_foreach(data, index, element) {
        const char *mark = json_string_value(json_object_get(json_object_get(element, "metadata"), FEATURES_METADATA));
        if (mark && strcmp(mark, configuration->scope) == 0)
            return element;
    }
    return NULL;
}

static void next_list_page(struct configuration *configuration);

static void listed(struct errand *errand, enum errand_end end, const json_t *answer, const struct refusal *refusal) {
    struct configuration *configuration = of_errand(errand);
    struct refusal wrong = *refusal;
    const json_t *data;
    bool has_more;
    if (!call_did(configuration, end, refusal))
        return;
    if (verdict_list(answer, configuration->cursor, &data, &has_more, &wrong) < 0) {
        errand_retry(errand, &wrong);
        return;
    }
    const json_t *chosen = choose(configuration, data);
    const char *id = json_string_value(json_object_get(chosen, "id"));
    if (id && !request_is_stripe_id(id, "bpc_")) {
        (void)verdict_misbehaved(&wrong, "a configuration has no id bpc_…");
        errand_retry(errand, &wrong);
    } else if (id) {
        char *product = configuration->per_product ? strdup(configuration->asked_product) : NULL;
        keep(configuration, strdup(id), product, NULL, configuration->per_product);
    } else if (has_more && configuration->per_product) {
        if (set_cursor(configuration, data))
            next_list_page(configuration);
        else
            out_of_memory(configuration);
    } else
        read_product(configuration);
}

static void next_list_page(struct configuration *configuration) {
    call(configuration, WALK_LISTING, ENDPOINT_CONFIGURATIONS,
         list_path(configuration, "/v1/billing_portal/configurations", NULL), NULL, NULL, listed);
}

static void list(struct configuration *configuration) {
    first_page(configuration);
    next_list_page(configuration);
}

/* ---- the product ---- */

static void product_read(struct errand *errand, enum errand_end end, const json_t *answer,
                         const struct refusal *refusal) {
    struct configuration *configuration = of_errand(errand);
    struct refusal wrong = *refusal;
    if (!call_did(configuration, end, refusal))
        return;
    const json_t *active = json_object_get(answer, "active");
    if (!json_is_boolean(active)) {
        (void)verdict_misbehaved(&wrong, "the product does not say whether it is active");
        errand_retry(errand, &wrong);
    } else if (json_is_true(active))
        read_prices(configuration);
    else
        fail_asker(configuration, CODE_PRODUCT_INACTIVE, NULL, refusal->request_id);
}

static void read_product(struct configuration *configuration) {
    struct text encoded = {0}, path = {0};
    form_add(&encoded, "", configuration->asked_product); /* "=prod_…" */
    AUTOFREE char *id = text_take(&encoded);
    if (id)
        text_appendf(&path, "/v1/products/%s", id + 1);
    call(configuration, WALK_PRODUCT, ENDPOINT_PRODUCTS, id ? text_take(&path) : NULL, NULL, NULL, product_read);
}

/* ---- its prices ---- */

static const char *product_of(const struct configuration *configuration) {
    return configuration->refreshing ? configuration->product : configuration->asked_product;
}

static void next_prices_page(struct configuration *configuration);
static void write_configuration(struct configuration *configuration);

static bool add_prices(struct configuration *configuration, const json_t *data) {
    size_t index;
    const json_t *price;
    json_array_foreach(data, index, price) {
        if (json_array_append(configuration->prices, json_object_get(price, "id")) < 0)
            return false;
    }
    return true;
}

static void prices_read(struct errand *errand, enum errand_end end, const json_t *answer,
                        const struct refusal *refusal) {
    struct configuration *configuration = of_errand(errand);
    struct refusal wrong = *refusal;
    const json_t *data;
    bool has_more;
    if (!call_did(configuration, end, refusal))
        return;
    if (verdict_list(answer, configuration->cursor, &data, &has_more, &wrong) < 0)
        errand_retry(errand, &wrong);
    else if (!add_prices(configuration, data) || (has_more && !set_cursor(configuration, data)))
        out_of_memory(configuration);
    else if (has_more)
        next_prices_page(configuration);
    else if (json_array_size(configuration->prices) == 0) {
        put_off_refresh(configuration);
        fail_asker(configuration, CODE_NO_ACTIVE_PRICES, NULL, refusal->request_id);
    } else
        write_configuration(configuration);
}

static void next_prices_page(struct configuration *configuration) {
    call(configuration, WALK_PRICES, ENDPOINT_PRICES, list_path(configuration, "/v1/prices", product_of(configuration)),
         NULL, NULL, prices_read);
}

static void read_prices(struct configuration *configuration) {
    first_page(configuration);
    json_decref(configuration->prices);
    configuration->prices = json_array();
    if (configuration->prices)
        next_prices_page(configuration);
    else
        out_of_memory(configuration);
}

/* ---- creating and updating ---- */

static void written(struct errand *errand, enum errand_end end, const json_t *answer, const struct refusal *refusal) {
    struct configuration *configuration = of_errand(errand);
    struct refusal wrong = *refusal;
    if (!call_did(configuration, end, refusal))
        return;
    const char *id = json_string_value(json_object_get(answer, "id"));
    if (!id || !request_is_stripe_id(id, "bpc_")) {
        (void)verdict_misbehaved(&wrong, "the configuration has no id bpc_…");
        if (errand_replayed(errand)) /* and never will have under this key */
            use_next_key(configuration, &wrong);
        else
            errand_retry(errand, &wrong);
        return;
    }
    portal_tell(configuration->portal, &(struct event){.kind = EVENT_CONFIGURATION,
                                                       .configuration = id,
                                                       .text = configuration->refreshing ? "updated" : "created",
                                                       .stripe_request_id = refusal->request_id});
    char *fingerprint = configuration->writing;
    configuration->writing = NULL;
    keep(configuration, strdup(id), strdup(product_of(configuration)), fingerprint, true);
}

/* The same for all workers until one is forgotten, so that two which believe to have the lease make one. */
static char *create_key(const struct configuration *configuration) {
    struct text key = {0};
    text_appendf(&key, "portal:%s:configuration:%.100s:%u:%u", configuration->portal->settings.account,
                 configuration->scope, configuration->forgotten, configuration->key_number);
    return text_take(&key);
}

static void write_configuration(struct configuration *configuration) {
    struct text path = {0};
    const char *product = product_of(configuration);
    text_replace(&configuration->writing, configuration_fingerprint(configuration, configuration->prices));
    if (!configuration->writing) {
        out_of_memory(configuration);
        return;
    }
    if (configuration->refreshing && configuration->fingerprint &&
        strcmp(configuration->fingerprint, configuration->writing) == 0) {
        char *fingerprint = configuration->writing;
        configuration->writing = NULL;
        keep(configuration, strdup(configuration->id), strdup(product), fingerprint, true);
        return;
    }
    char *form = features_form(configuration->portal->settings.features, configuration->refreshing, product,
                               configuration->prices, configuration->per_product ? configuration->scope : NULL);
    text_append(&path, "/v1/billing_portal/configurations");
    if (configuration->refreshing)
        text_appendf(&path, "/%s", configuration->id);
    char *key = configuration->refreshing ? NULL : create_key(configuration);
    call(configuration, WALK_WRITING, ENDPOINT_CONFIGURATIONS, text_take(&path), form, key, written);
}

/* ---- keeping ---- */

static void kept(struct store_task *task, enum store_status status) {
    struct configuration *configuration = of_task(task);
    struct configuration_row *row = &task->configuration;
    portal_turn_soon(configuration->portal);
    if (status == STORE_BAD_VALUE) {
        configuration_fail_all(configuration, CODE_INTERNAL_ERROR, "The portal configuration could not be saved", NULL);
        release(configuration);
        return;
    }
    if (status != STORE_DONE) {
        store_failed(configuration->portal, task, status);
        if (configuration->refreshing)
            end_walk(configuration); /* the next refresh says it again */
        else
            configuration->walk = WALK_UNKEPT;
        return;
    }
    /* It took so long that somebody else has the lease, or it was forgotten meanwhile: who waits looks anew. */
    if (!row->leased) {
        release(configuration);
        return;
    }
    if (configuration->stale) {
        end_walk(configuration);
        return;
    }
    row->checked_ago = 0;
    take_row(configuration, row);
    end_walk(configuration);
    configuration_known(configuration);
}

/* Takes the texts over; `id` NULL, or `product` of one that is managed: no memory. */
static void keep(struct configuration *configuration, char *id, char *product, char *fingerprint, bool managed) {
    if (!id || (managed && !product)) {
        out_of_memory(configuration);
        free(id);
        free(product);
        free(fingerprint);
        return;
    }
    prepare(configuration, WALK_KEEPING, STORE_CONFIGURATION_KEEP, kept);
    struct configuration_row *row = &configuration->task.configuration;
    row->id = id;
    row->product = product;
    row->fingerprint = fingerprint;
    row->managed = managed;
    row->forgotten = configuration->forgotten;
    submit(configuration);
}

void walk_keep_again(struct configuration *configuration) {
    configuration->walk = WALK_KEEPING;
    submit(configuration);
}
