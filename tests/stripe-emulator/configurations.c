/* Portal configurations: what the portal lets a customer do. */
#include "configurations.h"

#include "emulator.h"
#include "identifiers.h"
#include "lists.h"
#include "request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PRODUCTS "features.subscription_update.products"

json_t *configuration_new(void) {
    char id[32];
    json_int_t now = time(NULL);

    identifier_make(id, sizeof id, "bpc_1", 23);
    json_t *features = json_pack(
        "{s:{s:[], s:b}, s:{s:b}, s:{s:b}, s:{s:{s:b, s:[]}, s:b, s:s, s:s}, s:{s:b}, s:{s:[], s:b, s:n, s:s, s:{s:[]}}}",
        "customer_update", "allowed_updates", "enabled", 0, "invoice_history", "enabled", 0, "payment_method_update",
        "enabled", 0, "subscription_cancel", "cancellation_reason", "enabled", 0, "options", "enabled", 0, "mode",
        "at_period_end", "proration_behavior", "none", "subscription_pause", "enabled", 0, "subscription_update",
        "default_allowed_updates", "enabled", 0, "products", "proration_behavior", "none", "schedule_at_period_end",
        "conditions");

    return json_pack("{s:s, s:s, s:b, s:n, s:{s:n, s:n, s:n}, s:I, s:n, s:o, s:b, s:b, s:{s:b, s:n}, s:{}, s:n, s:I}",
                     "id", id, "object", "billing_portal.configuration", "active", 1, "application", "business_profile",
                     "headline", "privacy_policy_url", "terms_of_service_url", "created", now, "default_return_url",
                     "features", features, "is_default", 0, "livemode", 0, "login_page", "enabled", 0, "url",
                     "metadata", "name", "updated", now);
}

static json_t *configuration_feature(const json_t *configuration, const char *feature) {
    return json_object_get(json_object_get(configuration, "features"), feature);
}

bool configuration_enables(const json_t *configuration, const char *feature) {
    return json_is_true(json_object_get(configuration_feature(configuration, feature), "enabled"));
}

static json_t *configuration_products(const json_t *configuration) {
    return json_object_get(configuration_feature(configuration, "subscription_update"), "products");
}

void configuration_complete(json_t *configuration) {
    size_t index;
    json_t *product;

    json_array_foreach(configuration_products(configuration), index, product) {
        json_t *quantity = json_pack("{s:b, s:n, s:i}", "enabled", 0, "maximum", "minimum", 0);
        const json_t *given = json_object_get(product, "adjustable_quantity");

        if (given) {
            objects_overlay(quantity, given);
        }
        json_object_set_new(product, "adjustable_quantity", quantity);
    }
}

json_t *configuration_render(const json_t *configuration, bool livemode, bool products) {
    json_t *shown = json_deep_copy(configuration);

    json_object_set_new(shown, "livemode", json_boolean(livemode));
    if (!products) {
        json_object_del(configuration_feature(shown, "subscription_update"), "products");
    }
    return shown;
}

static int configuration_answer(const json_t *configuration, struct request *request) {
    _cleanup_json_ json_t *shown =
        configuration_render(configuration, request->answer.livemode, expand_wants(request->parameters, PRODUCTS));

    answer_json(&request->answer, 200, shown);
    return 0;
}

/* --- checks --- */

static int configuration_check_price(struct objects *objects, const char *product, const char *id, const char *param,
                                     struct answer *answer) {
    const json_t *price = objects_price(objects, id);

    if (!price) {
        return answer_missing(answer, 400, "price", id, param);
    }
    if (strcmp(json_string_value(json_object_get(price, "product")), product) != 0) {
        return answer_invalid(answer, NULL, param, "The price `%s` does not belong to the product `%s`.", id, product);
    }
    if (!json_is_true(json_object_get(price, "active"))) {
        return answer_invalid(answer, NULL, param,
                              "The price specified is inactive. This field only accepts active prices.");
    }
    return 0;
}

static int configuration_check_products(struct objects *objects, const json_t *products, struct answer *answer) {
    size_t i;
    size_t j;
    json_t *entry;
    json_t *price;
    char param[128];

    json_array_foreach((json_t *)products, i, entry) {
        const char *product = json_string_value(json_object_get(entry, "product"));

        if (!objects_product(objects, product)) {
            (void)snprintf(param, sizeof param, "features[subscription_update][products][%zu][product]", i);
            return answer_missing(answer, 400, "product", product, param);
        }
        json_array_foreach(json_object_get(entry, "prices"), j, price) {
            (void)snprintf(param, sizeof param, "features[subscription_update][products][%zu][prices][%zu]", i, j);
            int r = configuration_check_price(objects, product, json_string_value(price), param, answer);

            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

/* Checks the configuration as it would be. `given` are the features in the request, whose products are looked up. */
static int configuration_check(struct objects *objects, const json_t *configuration, const json_t *given,
                               struct answer *answer) {
    const json_t *update = configuration_feature(configuration, "subscription_update");
    const json_t *products = json_object_get(json_object_get(given, "subscription_update"), "products");

    if (configuration_enables(configuration, "subscription_update")) {
        static const char *const needed[] = {"default_allowed_updates", "products"};

        /* Stripe's own words; seen by users of the application that this worker comes from. */
        if (!configuration_enables(configuration, "payment_method_update")) {
            return answer_invalid(answer, NULL, NULL,
                                  "Cannot enable subscription updates while payment method update is disabled.");
        }
        for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
            if (json_array_size(json_object_get(update, needed[i])) == 0) {
                char param[96];

                (void)snprintf(param, sizeof param, "features[subscription_update][%s]", needed[i]);
                return answer_invalid(answer, "parameter_missing", param, "Missing required param: %s.", param);
            }
        }
    }
    return configuration_check_products(objects, products, answer);
}

/* --- changes --- */

static void configuration_merge_metadata(json_t *configuration, const json_t *given) {
    json_t *metadata = json_object_get(configuration, "metadata");
    const char *key;
    json_t *value;

    if (json_is_null(given)) {
        json_object_clear(metadata);
    }
    /* docs.stripe.com/api/metadata: keys are merged, and an empty value removes its key. */
    json_object_foreach((json_t *)given, key, value) {
        if (*json_string_value(value)) {
            json_object_set(metadata, key, value);
        } else {
            json_object_del(metadata, key);
        }
    }
}

static void configuration_apply(json_t *configuration, const struct request *request) {
    _cleanup_json_ json_t *given = json_copy(request->parameters);
    _cleanup_free_ char *base = request_base(request);
    json_t *login = json_object_get(configuration, "login_page");

    json_object_del(given, "expand");
    json_object_del(given, "metadata");
    objects_overlay(configuration, given);
    configuration_complete(configuration);
    configuration_merge_metadata(configuration, json_object_get(request->parameters, "metadata"));
    if (!json_is_true(json_object_get(login, "enabled"))) {
        json_object_set_new(login, "url", json_null());
    } else if (json_is_null(json_object_get(login, "url"))) {
        const char *id = json_string_value(json_object_get(configuration, "id"));

        json_object_set_new(login, "url", json_sprintf("%s/p/login/%s", base, id));
    }
    json_object_set_new(configuration, "updated", json_integer(time(NULL)));
}

/* --- endpoints --- */

static const char *const configuration_expandable[] = {PRODUCTS, "application", NULL};

struct configuration_filter {
    const json_t *active;
    const json_t *is_default;
    bool livemode;
    bool products;
};

static bool configuration_shows(const json_t *configuration, const void *context) {
    const struct configuration_filter *filter = context;
    const json_t *mode = json_object_get(configuration, "livemode");

    return (json_is_null(mode) || json_is_true(mode) == filter->livemode) &&
           (!filter->active || json_equal(filter->active, json_object_get(configuration, "active"))) &&
           (!filter->is_default || json_equal(filter->is_default, json_object_get(configuration, "is_default")));
}

static json_t *configuration_render_one(const json_t *configuration, const void *context) {
    const struct configuration_filter *filter = context;

    return configuration_render(configuration, filter->livemode, filter->products);
}

int configurations_list(struct emulator *emulator, struct request *request) {
    static const char *const expandable[] = {"data." PRODUCTS, "data.application", NULL};
    const struct configuration_filter filter = {
        .active = json_object_get(request->parameters, "active"),
        .is_default = json_object_get(request->parameters, "is_default"),
        .livemode = request->answer.livemode,
        .products = expand_wants(request->parameters, "data." PRODUCTS),
    };
    const struct list list = {
        .url = "/v1/billing_portal/configurations",
        .kind = "configuration",
        .objects = emulator->objects.configurations,
        .shows = configuration_shows,
        .render = configuration_render_one,
        .context = &filter,
    };
    int r = expand_check(request->parameters, expandable, &request->answer);

    return r < 0 ? r : list_answer(&list, request->parameters, &request->answer);
}

int configurations_create(struct emulator *emulator, struct request *request) {
    _cleanup_json_ json_t *configuration = configuration_new();
    struct objects *objects = &emulator->objects;
    int r = expand_check(request->parameters, configuration_expandable, &request->answer);

    if (r < 0) {
        return r;
    }
    if (json_array_size(objects->configurations) >= CONFIGURATIONS_MAX) {
        return answer_invalid(&request->answer, NULL, NULL, "You have reached the limit of %d portal configurations.",
                              CONFIGURATIONS_MAX);
    }
    json_object_set_new(configuration, "livemode", json_boolean(request->answer.livemode));
    configuration_apply(configuration, request);
    r = configuration_check(objects, configuration, json_object_get(request->parameters, "features"), &request->answer);
    if (r < 0) {
        return r;
    }
    (void)snprintf(request->effect, sizeof request->effect, "%s",
                   json_string_value(json_object_get(configuration, "id")));
    objects_add_configuration(objects, json_incref(configuration));
    emulator->counters.configurations_made++;
    return configuration_answer(configuration, request);
}

static json_t *configuration_named(struct emulator *emulator, struct request *request) {
    json_t *configuration = objects_configuration(&emulator->objects, request->id, request->answer.livemode);

    if (!configuration) {
        (void)answer_missing(&request->answer, 404, "configuration", request->id, "configuration");
    }
    return configuration;
}

int configurations_retrieve(struct emulator *emulator, struct request *request) {
    const json_t *configuration = configuration_named(emulator, request);

    if (!configuration) {
        return -EINVAL;
    }
    int r = expand_check(request->parameters, configuration_expandable, &request->answer);

    return r < 0 ? r : configuration_answer(configuration, request);
}

int configurations_update(struct emulator *emulator, struct request *request) {
    json_t *configuration = configuration_named(emulator, request);

    if (!configuration) {
        return -EINVAL;
    }
    int r = expand_check(request->parameters, configuration_expandable, &request->answer);

    if (r < 0) {
        return r;
    }
    /* On a copy first: a refused update changes nothing. */
    _cleanup_json_ json_t *changed = json_deep_copy(configuration);

    configuration_apply(changed, request);
    if (json_is_true(json_object_get(configuration, "is_default")) &&
        !json_is_true(json_object_get(changed, "active"))) {
        return answer_invalid(&request->answer, NULL, "active", "You cannot deactivate the default configuration.");
    }
    r = configuration_check(&emulator->objects, changed, json_object_get(request->parameters, "features"),
                            &request->answer);
    if (r < 0) {
        return r;
    }
    json_object_update(configuration, changed);
    (void)snprintf(request->effect, sizeof request->effect, "%s", request->id);
    emulator->counters.configurations_updated++;
    return configuration_answer(configuration, request);
}
