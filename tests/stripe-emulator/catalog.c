/* Customers, products and prices. */
#include "catalog.h"

#include "emulator.h"
#include "lists.h"
#include "request.h"

#include <string.h>
#include <strings.h>

struct price_filter {
    struct objects *objects;
    const json_t *parameters;
    bool livemode;
};

/* Whether it was made within `range`, a time or bounds; all was, within none. */
static bool created_in_range(const json_t *created, const json_t *range) {
    json_int_t at = json_integer_value(created);
    const char *key;
    json_t *bound;

    if (json_is_integer(range)) {
        return at == json_integer_value(range);
    }
    json_object_foreach((json_t *)range, key, bound) {
        json_int_t limit = json_integer_value(bound);
        bool within = strcmp(key, "gt") == 0    ? at > limit
                      : strcmp(key, "gte") == 0 ? at >= limit
                      : strcmp(key, "lt") == 0  ? at < limit
                                                : at <= limit;

        if (!within) {
            return false;
        }
    }
    return true;
}

static bool price_has_key(const json_t *price, const json_t *keys) {
    size_t index;
    json_t *key;

    json_array_foreach((json_t *)keys, index, key) {
        if (json_equal(key, json_object_get(price, "lookup_key"))) {
            return true;
        }
    }
    return false;
}

/* Whether each field that was given is the price's; as `created` and lookup_keys are compared otherwise, not those. */
static bool price_equals(const json_t *price, const json_t *given) {
    static const char *const compared[] = {"active", "product", "type", "interval", "meter", "usage_type"};

    for (size_t i = 0; i < sizeof compared / sizeof *compared; i++) {
        const json_t *value = json_object_get(given, compared[i]);

        if (value && !json_equal(value, json_object_get(price, compared[i]))) {
            return false;
        }
    }
    return true;
}

static bool price_shows(const json_t *price, const void *context) {
    const json_t *parameters = ((const struct price_filter *)context)->parameters;
    const json_t *created = json_object_get(parameters, "created");
    const json_t *keys = json_object_get(parameters, "lookup_keys");
    const json_t *recurring = json_object_get(parameters, "recurring");
    const char *currency = json_string_value(json_object_get(parameters, "currency"));

    return price_equals(price, parameters) && (!keys || price_has_key(price, keys)) &&
           (!created || created_in_range(json_object_get(price, "created"), created)) &&
           (!currency || strcasecmp(currency, json_string_value(json_object_get(price, "currency"))) == 0) &&
           (!recurring || price_equals(json_object_get(price, "recurring"), recurring));
}

static json_t *price_render(const json_t *price, const void *context) {
    static const char *const hidden[] = {"currency_options", "tiers"};
    const struct price_filter *filter = context;
    json_t *shown = json_copy((json_t *)price);

    json_object_set_new(shown, "livemode", json_boolean(filter->livemode));
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        _cleanup_free_ char *property = memory_format("data.%s", hidden[i]);

        if (!expand_wants(filter->parameters, property)) {
            json_object_del(shown, hidden[i]);
        }
    }
    if (expand_wants(filter->parameters, "data.product")) {
        json_t *product = objects_product(filter->objects, json_string_value(json_object_get(price, "product")));

        if (product) {
            json_object_set(shown, "product", product);
        }
    }
    return shown;
}

int catalog_list_prices(struct emulator *emulator, struct request *request) {
    static const char *const expandable[] = {"data.product", "data.currency_options", "data.tiers", NULL};
    const char *product = json_string_value(json_object_get(request->parameters, "product"));
    const struct price_filter filter = {
        .objects = &emulator->objects,
        .parameters = request->parameters,
        .livemode = request->answer.livemode,
    };
    const struct list list = {
        .url = "/v1/prices",
        .kind = "price",
        .objects = emulator->objects.prices,
        .shows = price_shows,
        .render = price_render,
        .context = &filter,
    };
    int r = expand_check(request->parameters, expandable, &request->answer);

    if (r < 0) {
        return r;
    }
    if (product && !objects_product(&emulator->objects, product)) {
        return answer_missing(&request->answer, 400, "product", product, "product");
    }
    return list_answer(&list, request->parameters, &request->answer);
}

int catalog_retrieve_product(struct emulator *emulator, struct request *request) {
    static const char *const expandable[] = {"default_price", "tax_code", NULL};
    json_t *product = objects_product(&emulator->objects, request->id);

    if (!product) {
        return answer_missing(&request->answer, 404, "product", request->id, "id");
    }
    int r = expand_check(request->parameters, expandable, &request->answer);

    if (r < 0) {
        return r;
    }
    _cleanup_json_ json_t *shown = json_copy(product);
    const char *price = json_string_value(json_object_get(product, "default_price"));

    json_object_set_new(shown, "livemode", json_boolean(request->answer.livemode));
    if (price && expand_wants(request->parameters, "default_price") && objects_price(&emulator->objects, price)) {
        json_object_set(shown, "default_price", objects_price(&emulator->objects, price));
    }
    answer_json(&request->answer, 200, shown);
    return 0;
}

/* Nobody has said more of them than their ids. */
static bool customer_shows(const json_t *customer, const void *context) {
    const json_t *parameters = context;

    return !json_object_get(parameters, "email") && !json_object_get(parameters, "test_clock") &&
           created_in_range(json_object_get(customer, "created"), json_object_get(parameters, "created"));
}

static json_t *customer_render(const json_t *customer, const void *context) {
    (void)context;
    return json_copy((json_t *)customer);
}

int catalog_list_customers(struct emulator *emulator, struct request *request) {
    static const char *const expandable[] = {NULL};
    _cleanup_json_ json_t *customers = json_array();
    const char *id;
    json_t *created;

    json_object_foreach(emulator->objects.customers, id, created) {
        json_array_append_new(customers, json_pack("{s:s, s:s, s:O, s:n, s:b, s:{}, s:n}", "id", id, "object",
                                                   "customer", "created", created, "email", "livemode",
                                                   request->answer.livemode, "metadata", "name"));
    }
    const struct list list = {
        .url = "/v1/customers",
        .kind = "customer",
        .objects = customers,
        .shows = customer_shows,
        .render = customer_render,
        .context = request->parameters,
    };
    int r = expand_check(request->parameters, expandable, &request->answer);

    return r < 0 ? r : list_answer(&list, request->parameters, &request->answer);
}
