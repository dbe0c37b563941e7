/* flow.c — the deep link of a request: read field by field, so that nothing unchecked reaches Stripe. Types and fields
 * as Stripe's BillingPortal.SessionCreateParams.FlowData, laid flatter. */
#include <errno.h>
#include <string.h>

#include "request-internal.h"

enum flow_field { FIELD_SUBSCRIPTION = 1, FIELD_RETENTION = 2, FIELD_ITEMS = 4, FIELD_DISCOUNTS = 8 };

static const struct flow_type {
    const char *name;
    unsigned fields;   /* that it knows */
    unsigned required; /* of those */
} flow_types[] = {
    {"payment_method_update", 0, 0},
    {"subscription_cancel", FIELD_SUBSCRIPTION | FIELD_RETENTION, FIELD_SUBSCRIPTION},
    {"subscription_update", FIELD_SUBSCRIPTION, FIELD_SUBSCRIPTION},
    {"subscription_update_confirm", FIELD_SUBSCRIPTION | FIELD_ITEMS | FIELD_DISCOUNTS,
     FIELD_SUBSCRIPTION | FIELD_ITEMS},
};

/* Copies a string field that has to be a Stripe id. Result: 0, -EINVAL, -ENOMEM; an absent one is 0 unless required. */
static int copy_id(const json_t *from, json_t *to, const char *where, const char *name, const char *prefix,
                   bool required, struct request_problem *problem) {
    const json_t *value = request_field(from, name);
    if (!value && !required)
        return 0;
    if (!value)
        return request_refuse(problem, "%s.%s is missing", where, name);
    if (!json_is_string(value) || !request_is_stripe_id(json_string_value(value), prefix))
        return request_refuse(problem, "%s.%s has to be the id of a Stripe object%s%s", where, name,
                              *prefix ? ", " : "", prefix);
    return json_object_set_new(to, name, json_string(json_string_value(value))) < 0 ? -ENOMEM : 0;
}

/* ---- subscription_update_confirm: one item, at most one discount (Stripe: "only up to one may be specified") ---- */

static int copy_quantity(const json_t *from, json_t *to, struct request_problem *problem) {
    const json_t *value = request_field(from, "quantity");
    if (!value)
        return 0;
    json_int_t quantity = json_integer_value(value);
    if (!json_is_integer(value) || quantity < 0 || quantity > INT32_MAX)
        return request_refuse(problem, "flow.items[0].quantity has to be an integer from 0 to %d", INT32_MAX);
    return json_object_set_new(to, "quantity", json_integer(quantity)) < 0 ? -ENOMEM : 0;
}

/* The one object of the list `name`, or NULL with the problem noted. */
static const json_t *only_element(const json_t *flow, const char *name, struct request_problem *problem) {
    const json_t *list = request_field(flow, name);
    if (!list) {
        (void)request_refuse(problem, "flow.%s is missing", name);
        return NULL;
    }
    if (!json_is_array(list) || json_array_size(list) != 1 || !json_is_object(json_array_get(list, 0))) {
        (void)request_refuse(problem, "flow.%s has to be a list of exactly one object, which is what Stripe takes",
                             name);
        return NULL;
    }
    return json_array_get(list, 0);
}

/* Puts `element` (taken over) as the only one into the list `name`. */
static int put_element(json_t *flow, const char *name, json_t *element) {
    json_t *list = json_pack("[o]", element);
    return json_object_set_new(flow, name, list) < 0 ? -ENOMEM : 0;
}

static int read_items(const json_t *from, json_t *flow, struct request_problem *problem) {
    const json_t *item = only_element(from, "items", problem);
    if (!item)
        return -EINVAL;
    json_t *copy = json_object();
    if (!copy)
        return -ENOMEM;
    int r = copy_id(item, copy, "flow.items[0]", "id", "si_", true, problem);
    if (r == 0)
        r = copy_id(item, copy, "flow.items[0]", "price", "", false, problem);
    if (r == 0)
        r = copy_quantity(item, copy, problem);
    if (r == 0)
        return put_element(flow, "items", copy);
    json_decref(copy);
    return r;
}

static int read_discounts(const json_t *from, json_t *flow, struct request_problem *problem) {
    if (!request_field(from, "discounts"))
        return 0;
    const json_t *discount = only_element(from, "discounts", problem);
    if (!discount)
        return -EINVAL;
    json_t *copy = json_object();
    if (!copy)
        return -ENOMEM;
    int r = copy_id(discount, copy, "flow.discounts[0]", "coupon", "", false, problem);
    if (r == 0)
        r = copy_id(discount, copy, "flow.discounts[0]", "promotion_code", "promo_", false, problem);
    if (r == 0 && json_object_size(copy) != 1)
        r = request_refuse(problem, "flow.discounts[0] has to name either a coupon or a promotion_code");
    if (r == 0)
        return put_element(flow, "discounts", copy);
    json_decref(copy);
    return r;
}

/* ---- subscription_cancel ---- */

static int read_retention(const json_t *from, json_t *flow, struct request_problem *problem) {
    const json_t *retention = request_field(from, "retention");
    if (!retention)
        return 0;
    if (!json_is_object(retention))
        return request_refuse(problem, "flow.retention has to be an object {type, coupon}");
    const json_t *type = request_field(retention, "type");
    if (!json_is_string(type) || strcmp(json_string_value(type), "coupon_offer") != 0)
        return request_refuse(problem, "flow.retention.type has to be \"coupon_offer\"");
    json_t *copy = json_pack("{s:s}", "type", "coupon_offer");
    if (!copy)
        return -ENOMEM;
    int r = copy_id(retention, copy, "flow.retention", "coupon", "", true, problem);
    if (r == 0)
        return json_object_set_new(flow, "retention", copy) < 0 ? -ENOMEM : 0;
    json_decref(copy);
    return r;
}

/* ---- after_completion ---- */

static size_t characters(const char *utf8) {
    size_t count = 0;
    for (; *utf8 != '\0'; utf8++)
        count += ((unsigned char)*utf8 & 0xc0) != 0x80;
    return count;
}

static int read_custom_message(const json_t *from, const char *type, json_t *to, struct request_problem *problem) {
    const json_t *value = request_field(from, "custom_message");
    if (!value)
        return 0;
    if (strcmp(type, "hosted_confirmation") != 0)
        return request_refuse(problem,
                              "flow.after_completion.custom_message goes with type \"hosted_confirmation\" only");
    if (!json_is_string(value) || json_string_length(value) == 0 ||
        characters(json_string_value(value)) > CUSTOM_MESSAGE_MAX)
        return request_refuse(problem, "flow.after_completion.custom_message has to be a string of 1 to %d characters",
                              CUSTOM_MESSAGE_MAX);
    return json_object_set_new(to, "custom_message", json_string(json_string_value(value))) < 0 ? -ENOMEM : 0;
}

static int read_redirect(const json_t *from, const char *type, json_t *to, struct request_problem *problem) {
    const json_t *value = request_field(from, "return_path");
    bool redirect = strcmp(type, "redirect") == 0;
    if (!value && !redirect)
        return 0;
    if (!redirect)
        return request_refuse(problem, "flow.after_completion.return_path goes with type \"redirect\" only");
    if (!json_is_string(value))
        return request_refuse(problem, "flow.after_completion.return_path has to be a string with type \"redirect\"");
    const char *wrong = request_path_problem(json_string_value(value));
    if (wrong)
        return request_refuse(problem, "flow.after_completion.return_path %s", wrong);
    return json_object_set_new(to, "return_path", json_string(json_string_value(value))) < 0 ? -ENOMEM : 0;
}

static int read_after_completion(const json_t *from, json_t *flow, struct request_problem *problem) {
    static const char *const types[] = {"hosted_confirmation", "portal_homepage", "redirect"};
    const json_t *after = request_field(from, "after_completion");
    if (!after)
        return 0;
    if (!json_is_object(after))
        return request_refuse(problem, "flow.after_completion has to be an object");
    const char *given = json_string_value(request_field(after, "type"));
    const char *type = NULL;
    for (size_t i = 0; given && i < sizeof types / sizeof *types; i++)
        if (strcmp(given, types[i]) == 0)
            type = types[i];
    if (!type)
        return request_refuse(problem, "flow.after_completion.type has to be \"hosted_confirmation\", "
                                       "\"portal_homepage\" or \"redirect\"");
    json_t *copy = json_pack("{s:s}", "type", type);
    if (!copy)
        return -ENOMEM;
    int r = read_custom_message(after, type, copy, problem);
    if (r == 0)
        r = read_redirect(after, type, copy, problem);
    if (r == 0)
        return json_object_set_new(flow, "after_completion", copy) < 0 ? -ENOMEM : 0;
    json_decref(copy);
    return r;
}

/* ---- the whole ---- */

static const struct flow_type *find_type(const json_t *flow) {
    const char *name = json_string_value(request_field(flow, "type"));
    for (size_t i = 0; name && i < sizeof flow_types / sizeof *flow_types; i++)
        if (strcmp(name, flow_types[i].name) == 0)
            return &flow_types[i];
    return NULL;
}

static int read_parts(const json_t *from, const struct flow_type *type, json_t *flow, struct request_problem *problem) {
    static const struct {
        const char *name;
        enum flow_field field;
    } parts[] = {{"subscription", FIELD_SUBSCRIPTION},
                 {"retention", FIELD_RETENTION},
                 {"items", FIELD_ITEMS},
                 {"discounts", FIELD_DISCOUNTS}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (request_field(from, parts[i].name) && !(type->fields & parts[i].field))
            return request_refuse(problem, "flow.%s does not go with flow.type \"%s\"", parts[i].name, type->name);

    int r = 0;
    if (type->fields & FIELD_SUBSCRIPTION)
        r = copy_id(from, flow, "flow", "subscription", "sub_", type->required & FIELD_SUBSCRIPTION, problem);
    if (r == 0 && (type->fields & FIELD_RETENTION))
        r = read_retention(from, flow, problem);
    if (r == 0 && (type->fields & FIELD_ITEMS))
        r = read_items(from, flow, problem);
    if (r == 0 && (type->fields & FIELD_DISCOUNTS))
        r = read_discounts(from, flow, problem);
    return r == 0 ? read_after_completion(from, flow, problem) : r;
}

int request_read_flow(const json_t *body, struct request *request, struct request_problem *problem) {
    const json_t *from = request_field(body, "flow");
    if (!from)
        return 0;
    if (!json_is_object(from))
        return request_refuse(problem, "flow has to be an object with a type");
    const struct flow_type *type = find_type(from);
    if (!type)
        return request_refuse(problem, "flow.type has to be \"payment_method_update\", \"subscription_cancel\", "
                                       "\"subscription_update\" or \"subscription_update_confirm\"");
    json_t *flow = json_pack("{s:s}", "type", type->name);
    if (!flow)
        return -ENOMEM;
    int r = read_parts(from, type, flow, problem);
    if (r < 0) {
        json_decref(flow);
        return r;
    }
    request->flow = flow;
    return 0;
}
