/* features.c — what the portal configurations this worker makes let a customer do: the reference's, or a file's over
 * them, checked against what Stripe accepts. */
#include "portal/features.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "portal/form.h"

struct features {
    json_t *parameters; /* of POST /v1/billing_portal/configurations, without products, metadata */
};

/* createCustomerPortalSession's own configuration. */
static json_t *reference(void) {
    return json_pack("{s:{s:s} s:{s:{s:b s:[sss] s:s} s:{s:b s:s s:{s:b s:[sssss]}} s:{s:b}}}", "business_profile",
                     "headline", "Manage your subscription", "features", "subscription_update", "enabled", 1,
                     "default_allowed_updates", "price", "quantity", "promotion_code", "proration_behavior",
                     "create_prorations", "subscription_cancel", "enabled", 1, "mode", "at_period_end",
                     "cancellation_reason", "enabled", 1, "options", "too_expensive", "missing_features",
                     "switched_service", "unused", "other", "payment_method_update", "enabled", 1);
}

/* ---- what Stripe accepts ---- */

enum kind { KIND_OBJECT, KIND_BOOLEAN, KIND_TEXT, KIND_URL, KIND_ENUM, KIND_ENUM_LIST };

/* A parameter: where it stands, of what kind, and the values or the length it may have. */
static const struct parameter {
    const char *path;
    enum kind kind;
    const char *values; /* of an enum, separated by spaces */
    size_t longest;     /* of a text, characters */
} parameters[] = {
    {"name", KIND_TEXT, NULL, 255},
    {"business_profile", KIND_OBJECT, NULL, 0},
    {"business_profile.headline", KIND_TEXT, NULL, 60},
    {"business_profile.privacy_policy_url", KIND_URL, NULL, 5000},
    {"business_profile.terms_of_service_url", KIND_URL, NULL, 5000},
    {"default_return_url", KIND_URL, NULL, 5000},
    {"login_page", KIND_OBJECT, NULL, 0},
    {"login_page.enabled", KIND_BOOLEAN, NULL, 0},
    {"features", KIND_OBJECT, NULL, 0},
    {"features.customer_update", KIND_OBJECT, NULL, 0},
    {"features.customer_update.enabled", KIND_BOOLEAN, NULL, 0},
    {"features.customer_update.allowed_updates", KIND_ENUM_LIST, "address email name phone shipping tax_id", 0},
    {"features.invoice_history", KIND_OBJECT, NULL, 0},
    {"features.invoice_history.enabled", KIND_BOOLEAN, NULL, 0},
    {"features.payment_method_update", KIND_OBJECT, NULL, 0},
    {"features.payment_method_update.enabled", KIND_BOOLEAN, NULL, 0},
    {"features.subscription_cancel", KIND_OBJECT, NULL, 0},
    {"features.subscription_cancel.enabled", KIND_BOOLEAN, NULL, 0},
    {"features.subscription_cancel.mode", KIND_ENUM, "at_period_end immediately", 0},
    {"features.subscription_cancel.proration_behavior", KIND_ENUM, "always_invoice create_prorations none", 0},
    {"features.subscription_cancel.cancellation_reason", KIND_OBJECT, NULL, 0},
    {"features.subscription_cancel.cancellation_reason.enabled", KIND_BOOLEAN, NULL, 0},
    {"features.subscription_cancel.cancellation_reason.options", KIND_ENUM_LIST,
     "customer_service low_quality missing_features other switched_service too_complex too_expensive unused", 0},
    {"features.subscription_update", KIND_OBJECT, NULL, 0},
    {"features.subscription_update.enabled", KIND_BOOLEAN, NULL, 0},
    {"features.subscription_update.default_allowed_updates", KIND_ENUM_LIST, "price promotion_code quantity", 0},
    {"features.subscription_update.proration_behavior", KIND_ENUM, "always_invoice create_prorations none", 0},
    {"features.subscription_update.schedule_at_period_end", KIND_OBJECT, NULL, 0},
};

static const struct parameter *find_parameter(const char *path) {
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
        if (strcmp(parameters[i].path, path) == 0)
            return &parameters[i];
    return NULL;
}

static bool is_listed(const char *values, const json_t *value) {
    const char *wanted = json_string_value(value);
    size_t length = wanted && !strchr(wanted, ' ') ? strlen(wanted) : 0;
    for (const char *at = values; length > 0 && (at = strstr(at, wanted)); at += length)
        if ((at == values || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return true;
    return false;
}

static bool are_listed(const char *values, const json_t *list) {
    size_t index;
    const json_t *value;
    if (!json_is_array(list))
        return false;
    json_array_foreach(list, index, value) {
        if (!is_listed(values, value))
            return false;
    }
    return true;
}

static size_t characters(const char *utf8) {
    size_t count = 0;
    for (; *utf8 != '\0'; utf8++)
        count += ((unsigned char)*utf8 & 0xc0) != 0x80;
    return count;
}

static bool is_web_url(const json_t *value) {
    const char *url = json_string_value(value);
    return url && (strncmp(url, "https://", 8) == 0 || strncmp(url, "http://", 7) == 0) && !strpbrk(url, " \t\r\n");
}

/* Writes what is wrong with one value. Result: whether anything was. */
static bool check_value(const struct parameter *parameter, const json_t *value, const char *name, FILE *errors) {
    bool right = true;
    const char *wanted = "";
    switch (parameter->kind) {
    case KIND_OBJECT:
        right = json_is_object(value);
        wanted = "an object";
        break;
    case KIND_BOOLEAN:
        right = json_is_boolean(value);
        wanted = "true or false";
        break;
    case KIND_TEXT:
        right = json_is_string(value);
        wanted = "a string";
        break;
    case KIND_URL:
        right = is_web_url(value);
        wanted = "an http or https URL";
        break;
    case KIND_ENUM:
        right = is_listed(parameter->values, value);
        wanted = "one of";
        break;
    case KIND_ENUM_LIST:
        right = are_listed(parameter->values, value);
        wanted = "a list of";
        break;
    }
    if (!right) {
        (void)fprintf(errors, "%s: %s has to be %s%s%s\n", name, parameter->path, wanted, parameter->values ? " " : "",
                      parameter->values ? parameter->values : "");
        return true;
    }
    if (json_is_string(value) && parameter->longest > 0 && characters(json_string_value(value)) > parameter->longest) {
        (void)fprintf(errors, "%s: %s is longer than the %zu characters that Stripe takes\n", name, parameter->path,
                      parameter->longest);
        return true;
    }
    return false;
}

/* schedule_at_period_end.conditions is a list of {type}, the one shape the table does not know. */
static bool check_conditions(const json_t *conditions, const char *name, FILE *errors) {
    size_t index;
    const json_t *condition;
    bool wrong = !json_is_array(conditions);
    json_array_foreach(conditions, index, condition) {
        wrong |= !json_is_object(condition) || json_object_size(condition) != 1 ||
                 !is_listed("decreasing_item_amount shortening_interval", json_object_get(condition, "type"));
    }
    if (wrong)
        (void)fprintf(errors,
                      "%s: features.subscription_update.schedule_at_period_end.conditions has to be a list of "
                      "{\"type\": …} with decreasing_item_amount or shortening_interval\n",
                      name);
    return wrong;
}

static int check_object(const json_t *object, const char *path, const char *name, FILE *errors);

static int check_member(const char *path, const char *key, const json_t *value, const char *name, FILE *errors) {
    struct text text = {0};
    text_appendf(&text, "%s%s%s", path, *path ? "." : "", key);
    AUTOFREE char *whole = text_take(&text);
    if (!whole)
        return -ENOMEM;
    bool dotted = strchr(key, '.'); /* which would look like one that is nested */
    if (!dotted && strcmp(whole, "features.subscription_update.schedule_at_period_end.conditions") == 0)
        return check_conditions(value, name, errors) ? -EINVAL : 0;
    const struct parameter *parameter = dotted ? NULL : find_parameter(whole);
    if (!parameter) {
        (void)fprintf(errors, "%s: %s is not a field that can be set here%s\n", name, whole,
                      strcmp(key, "products") == 0 ? ": the products are those of the team that asks" : "");
        return -EINVAL;
    }
    if (check_value(parameter, value, name, errors))
        return -EINVAL;
    return parameter->kind == KIND_OBJECT ? check_object(value, whole, name, errors) : 0;
}

static int check_object(const json_t *object, const char *path, const char *name, FILE *errors) {
    const char *key;
    json_t *value;
    int result = 0;
    json_object_foreach((json_t *)object, key, value) {
        int r = check_member(path, key, value, name, errors);
        if (r < 0)
            result = r;
    }
    return result;
}

/* ---- what Stripe wants of the whole ---- */

static const json_t *feature(const json_t *whole, const char *name) {
    return json_object_get(json_object_get(whole, "features"), name);
}

static bool is_enabled(const json_t *object) {
    return json_is_true(json_object_get(object, "enabled"));
}

/* What the reference does not have has to say whether it is enabled. Result: whether something does not. */
static bool check_enabled(const json_t *whole, const char *name, FILE *errors) {
    const struct {
        const char *path;
        const json_t *object;
    } optional[] = {{"login_page", json_object_get(whole, "login_page")},
                    {"features.customer_update", feature(whole, "customer_update")},
                    {"features.invoice_history", feature(whole, "invoice_history")}};
    bool wrong = false;
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
        if (optional[i].object && !json_object_get(optional[i].object, "enabled")) {
            (void)fprintf(errors, "%s: %s.enabled is missing\n", name, optional[i].path);
            wrong = true;
        }
    return wrong;
}

static bool check_updates(const json_t *whole, const char *name, FILE *errors) {
    const json_t *update = feature(whole, "subscription_update");
    bool wrong = false;
    if (!is_enabled(update))
        return false;
    if (json_array_size(json_object_get(update, "default_allowed_updates")) == 0) {
        (void)fprintf(errors,
                      "%s: features.subscription_update.default_allowed_updates has to name something, as "
                      "features.subscription_update is enabled\n",
                      name);
        wrong = true;
    }
    if (!is_enabled(feature(whole, "payment_method_update"))) {
        (void)fprintf(
            errors,
            "%s: features.payment_method_update has to be enabled, as features.subscription_update is: Stripe "
            "takes no updates without\n",
            name);
        wrong = true;
    }
    return wrong;
}

static int check_whole(const json_t *whole, const char *name, FILE *errors) {
    bool wrong = check_enabled(whole, name, errors);
    return check_updates(whole, name, errors) || wrong ? -EINVAL : 0;
}

/* ---- loading ---- */

int features_new(const json_t *file, const char *name, struct features **ret, FILE *errors) {
    if (file && !json_is_object(file)) {
        (void)fprintf(errors, "%s: has to be a JSON object laid out as Stripe's portal configuration\n", name);
        return -EINVAL;
    }
    int r = file ? check_object(file, "", name, errors) : 0;
    struct features *features = calloc(1, sizeof *features);
    if (!features)
        return -ENOMEM;
    features->parameters = reference();
    if (!features->parameters || (file && json_object_update_recursive(features->parameters, (json_t *)file) < 0)) {
        features_free(features);
        return -ENOMEM;
    }
    if (check_whole(features->parameters, name, errors) < 0)
        r = -EINVAL;
    if (r < 0) {
        features_free(features);
        return r;
    }
    *ret = features;
    return 0;
}

int features_load(const char *path, struct features **ret, FILE *errors) {
    if (!path)
        return features_new(NULL, "", ret, errors);
    FILE *stream = fopen(path, "re");
    if (!stream) {
        int error = -errno;
        (void)fprintf(errors, "%s: can't be read: %s\n", path, strerror(-error));
        return error;
    }
    json_error_t error;
    json_t *file = json_loadf(stream, JSON_REJECT_DUPLICATES, &error);
    (void)fclose(stream);
    if (!file) {
        (void)fprintf(errors, "%s:%d:%d: not JSON: %s\n", path, error.line, error.column, error.text);
        return -EINVAL;
    }
    int r = features_new(file, path, ret, errors);
    json_decref(file);
    return r;
}

void features_free(struct features *features) {
    if (!features)
        return;
    json_decref(features->parameters);
    free(features);
}

/* ---- using ---- */

/* An update changes what it names and nothing else. So that what was taken out of the file is taken back at Stripe, it
 * names all that the reference does not have; "" unsets. */
static json_t *unset(void) {
    return json_pack("{s:s s:{s:s s:s s:s} s:s s:{s:b} s:{s:{s:b} s:{s:b} s:{s:s} s:{s:{s:s}}}}", "name", "",
                     "business_profile", "headline", "", "privacy_policy_url", "", "terms_of_service_url", "",
                     "default_return_url", "", "login_page", "enabled", 0, "features", "customer_update", "enabled", 0,
                     "invoice_history", "enabled", 0, "subscription_cancel", "proration_behavior", "none",
                     "subscription_update", "schedule_at_period_end", "conditions", "");
}

/* The parameters of one form; NULL: no memory. */
static json_t *parameters_for(const struct features *features, bool update) {
    json_t *whole = update ? unset() : json_object();
    json_t *own = json_deep_copy(features->parameters);
    if (!whole || !own || json_object_update_recursive(whole, own) < 0) {
        json_decref(whole);
        whole = NULL;
    }
    json_decref(own);
    return whole;
}

static int put_products(json_t *whole, const char *product, const json_t *prices) {
    json_t *update = json_object_get(json_object_get(whole, "features"), "subscription_update");
    if (!is_enabled(update))
        return 0; /* Stripe takes products only where they can be switched to */
    json_t *products = json_pack("[{s:s s:O}]", "product", product, "prices", prices);
    return json_object_set_new(update, "products", products);
}

char *features_form(const struct features *features, bool update, const char *product, const json_t *prices,
                    const char *metadata_key) {
    json_t *whole = parameters_for(features, update);
    if (!whole || put_products(whole, product, prices) < 0) {
        json_decref(whole);
        return NULL;
    }
    struct text form = {0};
    const char *name;
    json_t *value;
    json_object_foreach(whole, name, value) {
        form_add_json(&form, name, value);
    }
    form_add(&form, "metadata[" FEATURES_METADATA "]", metadata_key);
    json_decref(whole);
    return text_take(&form);
}

uint64_t fingerprint_of(const char *text) {
    uint64_t hash = 0xcbf29ce484222325;
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3;
    return hash;
}

uint64_t features_fingerprint(const struct features *features) {
    AUTOFREE char *text = json_dumps(features->parameters, JSON_COMPACT | JSON_SORT_KEYS);
    return text ? fingerprint_of(text) : 0;
}
