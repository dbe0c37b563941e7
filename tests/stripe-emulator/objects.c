/* Stripe's objects, and the data they come from. */
#include "objects.h"

#include "configurations.h"

#include <errno.h>
#include <string.h>
#include <time.h>

void objects_begin(struct objects *objects) {
    *objects = (struct objects){
        .customers = json_object(),
        .customer_ranges = json_array(),
        .products = json_object(),
        .prices = json_array(),
        .price_index = json_object(),
        .configurations = json_array(),
        .configuration_index = json_object(),
        .configuration_data = json_object(),
    };
}

void objects_done(struct objects *objects) {
    json_decref(objects->customers);
    json_decref(objects->customer_ranges);
    json_decref(objects->subscriptions);
    json_decref(objects->products);
    json_decref(objects->prices);
    json_decref(objects->price_index);
    json_decref(objects->configurations);
    json_decref(objects->configuration_index);
    json_decref(objects->configuration_data);
    *objects = (struct objects){0};
}

static void objects_forget_made(struct objects *objects) {
    for (size_t i = json_array_size(objects->configurations); i > 0; i--) {
        const char *id = json_string_value(json_object_get(json_array_get(objects->configurations, i - 1), "id"));

        if (!json_object_get(objects->configuration_data, id)) {
            json_object_del(objects->configuration_index, id);
            json_array_remove(objects->configurations, i - 1);
        }
    }
}

void objects_reset(struct objects *objects, bool keep_data) {
    if (keep_data) {
        objects_forget_made(objects);
        return;
    }
    objects_done(objects);
    objects_begin(objects);
}

bool objects_has_customer(const struct objects *objects, const char *id) {
    size_t index;
    json_t *range;

    if (objects->any_customer || json_object_get(objects->customers, id)) {
        return true;
    }
    json_array_foreach(objects->customer_ranges, index, range) {
        const char *prefix = json_string_value(json_object_get(range, "prefix"));
        const char *number = id + strlen(prefix);

        if (strncmp(id, prefix, strlen(prefix)) == 0 && *number >= '1' && *number <= '9' &&
            strspn(number, "0123456789") == strlen(number) && strlen(number) < 18 &&
            strtoll(number, NULL, 10) <= json_integer_value(json_object_get(range, "count"))) {
            return true;
        }
    }
    return false;
}

static json_t *objects_new_product(const char *id) {
    json_int_t now = time(NULL);

    return json_pack(
        "{s:s, s:s, s:b, s:I, s:n, s:n, s:[], s:b, s:[], s:{}, s:s, s:n, s:n, s:n, s:n, s:s, s:n, s:I, s:n}", "id", id,
        "object", "product", "active", 1, "created", now, "default_price", "description", "images", "livemode", 0,
        "marketing_features", "metadata", "name", id, "package_dimensions", "shippable", "statement_descriptor",
        "tax_code", "type", "service", "unit_label", "updated", now, "url");
}

json_t *objects_product(struct objects *objects, const char *id) {
    json_t *product = json_object_get(objects->products, id);

    if (!product && objects->any_product) {
        product = objects_new_product(id);
        json_object_set_new(objects->products, id, product);
    }
    return product;
}

json_t *objects_price(const struct objects *objects, const char *id) {
    return json_object_get(objects->price_index, id);
}

json_t *objects_configuration(const struct objects *objects, const char *id, bool livemode) {
    json_t *configuration = json_object_get(objects->configuration_index, id);
    const json_t *mode = json_object_get(configuration, "livemode");

    /* Data that says nothing of the mode is there in both. */
    return json_is_null(mode) || json_is_true(mode) == livemode ? configuration : NULL;
}

void objects_add_configuration(struct objects *objects, json_t *configuration) {
    const char *id = json_string_value(json_object_get(configuration, "id"));

    json_object_set(objects->configuration_index, id, configuration);
    json_array_append_new(objects->configurations, configuration);
}

void objects_overlay(json_t *target, const json_t *given) {
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)given, key, value) {
        json_t *old = json_object_get(target, key);

        if (json_is_object(value) && json_is_object(old)) {
            objects_overlay(old, value);
        } else if (json_is_null(value) && json_is_array(old)) {
            json_array_clear(old);
        } else {
            json_object_set_new(target, key, json_deep_copy(value));
        }
    }
}

/* --- data --- */

static int objects_wrong(char **error, const char *format, ...) _printf_(2, 3);
static int objects_wrong(char **error, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    *error = memory_vformat(format, arguments);
    va_end(arguments);
    return -EINVAL;
}

static int objects_merge_customers(struct objects *objects, const json_t *customers, char **error) {
    size_t index;
    json_t *customer;

    if (json_is_string(customers) && strcmp(json_string_value(customers), "any") == 0) {
        objects->any_customer = true;
        return 0;
    }
    if (json_is_object(customers)) {
        if (!json_is_string(json_object_get(customers, "prefix")) ||
            !json_is_integer(json_object_get(customers, "count"))) {
            return objects_wrong(error, "customers: an object needs a prefix and a count");
        }
        json_array_append_new(objects->customer_ranges, json_deep_copy(customers));
        return 0;
    }
    if (!json_is_array(customers)) {
        return objects_wrong(error, "customers: a list of ids, an object with prefix and count, or \"any\"");
    }
    json_array_foreach((json_t *)customers, index, customer) {
        if (!json_is_string(customer)) {
            return objects_wrong(error, "customers[%zu]: not a string", index);
        }
        json_object_set_new(objects->customers, json_string_value(customer), json_integer(time(NULL)));
    }
    return 0;
}

static int objects_merge_subscriptions(struct objects *objects, const json_t *subscriptions, char **error) {
    const char *id;
    json_t *customer;

    if (!json_is_object(subscriptions)) {
        return objects_wrong(error, "subscriptions: an object of subscription ids and customer ids");
    }
    json_object_foreach((json_t *)subscriptions, id, customer) {
        if (!json_is_string(customer)) {
            return objects_wrong(error, "subscriptions: %s: not a string", id);
        }
    }
    if (!objects->subscriptions) {
        objects->subscriptions = json_object();
    }
    json_object_update(objects->subscriptions, (json_t *)subscriptions);
    return 0;
}

static int objects_merge_product(struct objects *objects, const json_t *given, char **error) {
    const char *id = json_string_value(json_object_get(given, "id"));

    if (!id) {
        return objects_wrong(error, "products: one has no id");
    }
    json_t *product = json_object_get(objects->products, id);

    if (!product) {
        product = objects_new_product(id);
        json_object_set_new(objects->products, id, product);
    }
    objects_overlay(product, given);
    return 0;
}

static json_t *objects_new_price(const char *id) {
    return json_pack("{s:s, s:s, s:b, s:s, s:I, s:s, s:n, s:b, s:n, s:{}, s:n, s:s, s:{s:n, s:s, s:i, s:n, s:n, s:s}, "
                     "s:s, s:n, s:n, s:s, s:i, s:s}",
                     "id", id, "object", "price", "active", 1, "billing_scheme", "per_unit", "created",
                     (json_int_t)time(NULL), "currency", "usd", "custom_unit_amount", "livemode", 0, "lookup_key",
                     "metadata", "nickname", "product", "", "recurring", "aggregate_usage", "interval", "month",
                     "interval_count", 1, "meter", "trial_period_days", "usage_type", "licensed", "tax_behavior",
                     "unspecified", "tiers_mode", "transform_quantity", "type", "recurring", "unit_amount", 800,
                     "unit_amount_decimal", "800");
}

static int objects_merge_price(struct objects *objects, const json_t *given, char **error) {
    const char *id = json_string_value(json_object_get(given, "id"));
    json_t *price = id ? objects_price(objects, id) : NULL;

    const json_t *product = json_object_get(given, "product");
    const json_t *currency = json_object_get(given, "currency");

    if (!id || (product ? !json_is_string(product) : !price)) {
        return objects_wrong(error, "prices: each needs an id and a product");
    }
    if (currency && !json_is_string(currency)) {
        return objects_wrong(error, "prices: %s: currency: not a string", id);
    }
    if (!price) {
        price = objects_new_price(id);
        json_object_set(objects->price_index, id, price);
        json_array_append_new(objects->prices, price);
    }
    objects_overlay(price, given);
    const char *type = json_string_value(json_object_get(given, "type"));

    if (type && strcmp(type, "one_time") == 0) {
        json_object_set_new(price, "recurring", json_null());
    }
    const json_t *amount = json_object_get(given, "unit_amount");

    if (json_is_integer(amount) && !json_object_get(given, "unit_amount_decimal")) {
        json_object_set_new(price, "unit_amount_decimal",
                            json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(amount)));
    }
    return 0;
}

static int objects_merge_configuration(struct objects *objects, const json_t *given, char **error) {
    const char *id = json_string_value(json_object_get(given, "id"));
    json_t *configuration = id ? json_object_get(objects->configuration_index, id) : NULL;

    if (!json_is_object(given) || (json_object_get(given, "id") && !id)) {
        return objects_wrong(error, "configurations: each is an object, whose id is a string");
    }
    if (!configuration) {
        configuration = configuration_new();
        /* In both modes, unless the data says otherwise. */
        json_object_set_new(configuration, "livemode", json_null());
        if (id) {
            json_object_set_new(configuration, "id", json_string(id));
        }
        json_object_set_new(objects->configuration_data, json_string_value(json_object_get(configuration, "id")),
                            json_true());
        objects_add_configuration(objects, configuration);
    }
    objects_overlay(configuration, given);
    configuration_complete(configuration);
    return 0;
}

static int objects_merge_list(struct objects *objects, const char *name, const json_t *list,
                              int (*merge)(struct objects *, const json_t *, char **), char **error) {
    size_t index;
    json_t *given;

    if (list && !json_is_array(list)) {
        return objects_wrong(error, "%s: not a list", name);
    }
    json_array_foreach((json_t *)list, index, given) {
        int r = merge(objects, given, error);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int objects_merge(struct objects *objects, const json_t *data, char **error) {
    static const char *const known[] = {"customers", "subscriptions", "products", "prices", "configurations"};
    const char *key;
    json_t *value;
    int r = 0;

    if (!json_is_object(data)) {
        return objects_wrong(error, "the data is not an object");
    }
    json_object_foreach((json_t *)data, key, value) {
        size_t i = 0;

        while (i < sizeof known / sizeof *known && strcmp(key, known[i]) != 0) {
            i++;
        }
        if (i == sizeof known / sizeof *known) {
            return objects_wrong(error, "unknown: %s", key);
        }
    }
    if (json_object_get(data, "customers")) {
        r = objects_merge_customers(objects, json_object_get(data, "customers"), error);
    }
    if (r == 0 && json_object_get(data, "subscriptions")) {
        r = objects_merge_subscriptions(objects, json_object_get(data, "subscriptions"), error);
    }
    const json_t *products = json_object_get(data, "products");

    if (json_is_string(products) && strcmp(json_string_value(products), "any") == 0) {
        objects->any_product = true;
        products = NULL;
    }
    if (r == 0) {
        r = objects_merge_list(objects, "products", products, objects_merge_product, error);
    }
    if (r == 0) {
        r = objects_merge_list(objects, "prices", json_object_get(data, "prices"), objects_merge_price, error);
    }
    if (r == 0) {
        r = objects_merge_list(objects, "configurations", json_object_get(data, "configurations"),
                               objects_merge_configuration, error);
    }
    return r;
}
