/* Portal sessions, and the URLs they are reached by. */
#include "sessions.h"

#include "configurations.h"
#include "emulator.h"
#include "identifiers.h"
#include "lists.h"
#include "request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void sessions_begin(struct sessions *sessions) {
    *sessions = (struct sessions){.ring = memory_get(SESSIONS_KEPT * sizeof(struct session))};
}

void sessions_done(struct sessions *sessions) {
    for (uint64_t n = 0; n < sessions->made && n < SESSIONS_KEPT; n++) {
        free(sessions->ring[n].object);
    }
    free(sessions->ring);
    *sessions = (struct sessions){0};
}

static uint64_t sessions_first(const struct sessions *sessions) {
    return sessions->made > SESSIONS_KEPT ? sessions->made - SESSIONS_KEPT : 0;
}

const struct session *sessions_find(const struct sessions *sessions, const char *token) {
    const char *end = strrchr(token, '_');
    uint64_t number = end ? strtoull(end + 1, NULL, 16) : UINT64_MAX;

    /* The token ends in the session's number, so that no index is needed. */
    if (number >= sessions->made || number < sessions_first(sessions)) {
        return NULL;
    }
    const struct session *session = &sessions->ring[number % SESSIONS_KEPT];

    return strcmp(session->token, token) == 0 ? session : NULL;
}

json_t *sessions_list(const struct sessions *sessions, uint64_t since, size_t limit) {
    json_t *list = json_array();

    if (since < sessions_first(sessions)) {
        since = sessions_first(sessions);
    }
    for (uint64_t n = since; n < sessions->made && json_array_size(list) < limit; n++) {
        json_array_append_new(list, json_loads(sessions->ring[n % SESSIONS_KEPT].object, 0, NULL));
    }
    return list;
}

/* --- checks --- */

/* The configuration that the request names, or else the default one. */
static json_t *session_configuration(struct emulator *emulator, struct request *request) {
    const char *id = json_string_value(json_object_get(request->parameters, "configuration"));
    bool livemode = request->answer.livemode;
    size_t index;
    json_t *configuration;

    if (id) {
        configuration = objects_configuration(&emulator->objects, id, livemode);
        if (!configuration) {
            (void)answer_missing(&request->answer, 400, "configuration", id, "configuration");
        } else if (!json_is_true(json_object_get(configuration, "active"))) {
            (void)answer_invalid(&request->answer, NULL, "configuration",
                                 "The provided configuration `%s` is inactive and cannot be used to create a portal "
                                 "session.",
                                 id);
            configuration = NULL;
        }
        return configuration;
    }
    json_array_foreach(emulator->objects.configurations, index, configuration) {
        id = json_string_value(json_object_get(configuration, "id"));
        if (json_is_true(json_object_get(configuration, "is_default")) &&
            json_is_true(json_object_get(configuration, "active")) &&
            objects_configuration(&emulator->objects, id, livemode)) {
            return configuration;
        }
    }
    (void)answer_invalid(&request->answer, NULL, NULL,
                         "You can’t create a portal session in %s mode until you save your customer portal settings in "
                         "%s mode at https://dashboard.stripe.com/%ssettings/billing/portal.",
                         livemode ? "live" : "test", livemode ? "live" : "test", livemode ? "" : "test/");
    return NULL;
}

static int session_check_subscription(const struct objects *objects, const char *customer, const char *type,
                                      const char *subscription, struct answer *answer) {
    char param[96];

    if (!objects->subscriptions) {
        return 0;
    }
    (void)snprintf(param, sizeof param, "flow_data[%s][subscription]", type);
    const char *owner = json_string_value(json_object_get(objects->subscriptions, subscription));

    if (!owner) {
        return answer_missing(answer, 400, "subscription", subscription, param);
    }
    if (strcmp(owner, customer) != 0) {
        return answer_invalid(answer, NULL, param, "The subscription `%s` does not belong to the customer `%s`.",
                              subscription, customer);
    }
    return 0;
}

static bool session_offers_price(const json_t *configuration, const json_t *price) {
    const json_t *update = json_object_get(json_object_get(configuration, "features"), "subscription_update");
    size_t i;
    size_t j;
    json_t *product;
    json_t *offered;

    json_array_foreach(json_object_get(update, "products"), i, product) {
        json_array_foreach(json_object_get(product, "prices"), j, offered) {
            if (json_equal(offered, price)) {
                return true;
            }
        }
    }
    return false;
}

/* subscription_update_confirm: the price must be among those that the configuration offers (the SDK's types say so). */
static int session_check_items(const json_t *configuration, const json_t *confirm, struct answer *answer) {
    const json_t *price = json_object_get(json_array_get(json_object_get(confirm, "items"), 0), "price");

    if (price && !session_offers_price(configuration, price)) {
        return answer_invalid(answer, NULL, "flow_data[subscription_update_confirm][items][0][price]",
                              "The price `%s` is not included in the configuration's subscription update products.",
                              json_string_value(price));
    }
    return 0;
}

static int session_check_completion(const json_t *completion, struct answer *answer) {
    const char *type = json_string_value(json_object_get(completion, "type"));

    if (type && strcmp(type, "redirect") == 0 && !json_object_get(completion, "redirect")) {
        return answer_invalid(answer, "parameter_missing", "flow_data[after_completion][redirect]",
                              "Missing required param: flow_data[after_completion][redirect].");
    }
    return 0;
}

static int session_check_flow(const struct objects *objects, const json_t *configuration, const struct request *request,
                              struct answer *answer) {
    static const char *const types[] = {"subscription_cancel", "subscription_update", "subscription_update_confirm"};
    const json_t *flow = json_object_get(request->parameters, "flow_data");
    const char *customer = json_string_value(json_object_get(request->parameters, "customer"));
    const char *type = json_string_value(json_object_get(flow, "type"));
    char param[96];

    if (!flow) {
        return 0;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const json_t *given = json_object_get(flow, types[i]);
        bool wanted = strcmp(type, types[i]) == 0;

        (void)snprintf(param, sizeof param, "flow_data[%s]", types[i]);
        if (wanted && !given) {
            return answer_invalid(answer, "parameter_missing", param, "Missing required param: %s.", param);
        }
        if (!wanted && given) {
            return answer_invalid(answer, NULL, param, "%s can only be passed when flow_data[type] is %s.", param,
                                  types[i]);
        }
        const char *subscription = json_string_value(json_object_get(given, "subscription"));
        int r = given ? session_check_subscription(objects, customer, type, subscription, answer) : 0;

        if (r < 0) {
            return r;
        }
    }
    /* Both update flows need the one feature. */
    const char *feature = strncmp(type, types[1], strlen(types[1])) == 0 ? types[1] : type;

    if (!configuration_enables(configuration, feature)) {
        return answer_invalid(answer, NULL, "flow_data[type]",
                              "The `%s` flow cannot be used because the %s feature in the portal configuration is "
                              "disabled.",
                              type, feature);
    }
    int r = session_check_items(configuration, json_object_get(flow, types[2]), answer);

    return r < 0 ? r : session_check_completion(json_object_get(flow, "after_completion"), answer);
}

/* --- the object --- */

static void session_fill(json_t *object, const char *field) {
    if (json_is_object(object) && !json_object_get(object, field)) {
        json_object_set_new(object, field, json_null());
    }
}

/* A flow as Stripe shows it: every field there, null where it was not given. */
static json_t *session_flow(const json_t *given) {
    if (!given) {
        return json_null();
    }
    json_t *flow = json_pack("{s:{s:n, s:n, s:s}, s:n, s:n, s:n, s:n}", "after_completion", "hosted_confirmation",
                             "redirect", "type", "portal_homepage", "subscription_cancel", "subscription_update",
                             "subscription_update_confirm", "type");

    objects_overlay(flow, given);
    json_t *confirm = json_object_get(flow, "subscription_update_confirm");
    json_t *discount = json_array_get(json_object_get(confirm, "discounts"), 0);

    session_fill(json_object_get(flow, "subscription_cancel"), "retention");
    session_fill(confirm, "discounts");
    session_fill(discount, "coupon");
    session_fill(discount, "promotion_code");
    session_fill(json_array_get(json_object_get(confirm, "items"), 0), "price");
    return flow;
}

static json_t *session_or(const json_t *given, const json_t *otherwise) {
    return given ? json_incref((json_t *)given) : json_incref((json_t *)otherwise);
}

static json_t *session_new(const json_t *configuration, const struct request *request, const char *token) {
    const json_t *parameters = request->parameters;
    _cleanup_free_ char *base = request_base(request);
    char id[32];

    identifier_make(id, sizeof id, "bps_1", 23);
    return json_pack(
        "{s:s, s:s, s:O, s:I, s:O, s:o, s:b, s:o, s:o, s:o, s:o}", "id", id, "object", "billing_portal.session",
        "configuration", json_object_get(configuration, "id"), "created", (json_int_t)request->time, "customer",
        json_object_get(parameters, "customer"), "flow", session_flow(json_object_get(parameters, "flow_data")),
        "livemode", request->answer.livemode, "locale", session_or(json_object_get(parameters, "locale"), json_null()),
        "on_behalf_of", session_or(json_object_get(parameters, "on_behalf_of"), json_null()), "return_url",
        session_or(json_object_get(parameters, "return_url"), json_object_get(configuration, "default_return_url")),
        "url", json_sprintf("%s/p/session/%s", base, token));
}

static void session_keep(struct sessions *sessions, const char *token, const json_t *object, double created) {
    struct session *session = &sessions->ring[sessions->made++ % SESSIONS_KEPT];

    free(session->object);
    *session = (struct session){.object = json_dumps(object, JSON_COMPACT), .created = created};
    (void)snprintf(session->token, sizeof session->token, "%s", token);
}

static int session_check(struct emulator *emulator, const json_t *configuration, struct request *request) {
    const char *customer = json_string_value(json_object_get(request->parameters, "customer"));
    const char *account = json_string_value(json_object_get(request->parameters, "on_behalf_of"));

    if (!objects_has_customer(&emulator->objects, customer)) {
        return answer_missing(&request->answer, 400, "customer", customer, "customer");
    }
    if (account && strncmp(account, "acct_", 5) != 0) {
        return answer_missing(&request->answer, 400, "account", account, "on_behalf_of");
    }
    return session_check_flow(&emulator->objects, configuration, request, &request->answer);
}

int sessions_create(struct emulator *emulator, struct request *request) {
    static const char *const expandable[] = {"configuration", NULL};
    char token[48];
    char random[32];

    if (expand_check(request->parameters, expandable, &request->answer) < 0) {
        return -EINVAL;
    }
    const json_t *configuration = session_configuration(emulator, request);

    if (!configuration || session_check(emulator, configuration, request) < 0) {
        return -EINVAL;
    }
    identifier_make(random, sizeof random, request->answer.livemode ? "live_" : "test_", 24);
    (void)snprintf(token, sizeof token, "%s_%08" PRIx64, random, emulator->sessions.made);
    _cleanup_json_ json_t *object = session_new(configuration, request, token);

    session_keep(&emulator->sessions, token, object, request->time);
    emulator->counters.sessions_made++;
    (void)snprintf(request->effect, sizeof request->effect, "%s", json_string_value(json_object_get(object, "id")));
    if (expand_wants(request->parameters, "configuration")) {
        json_object_set_new(object, "configuration",
                            configuration_render(configuration, request->answer.livemode, false));
    }
    answer_json(&request->answer, 200, object);
    return 0;
}
