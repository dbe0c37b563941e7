/* What parameters each of Stripe's endpoints takes. */
#include "parameters.h"

/* --- shorthands: a table's line says the name, the kind and what differs from an optional, free value --- */

#define STRING(name_, ...)                                                                                             \
    { .name = (name_), .kind = PARAMETER_STRING, __VA_ARGS__ }
#define URL(name_, ...)                                                                                                \
    { .name = (name_), .kind = PARAMETER_URL, __VA_ARGS__ }
#define BOOLEAN(name_, ...)                                                                                            \
    { .name = (name_), .kind = PARAMETER_BOOLEAN, __VA_ARGS__ }
#define INTEGER(name_, ...)                                                                                            \
    { .name = (name_), .kind = PARAMETER_INTEGER, __VA_ARGS__ }
#define ENUM(name_, choices_, ...)                                                                                     \
    { .name = (name_), .kind = PARAMETER_ENUM, .choices = (choices_), __VA_ARGS__ }
#define HASH(name_, fields_, ...)                                                                                      \
    { .name = (name_), .kind = PARAMETER_HASH, .fields = (fields_), __VA_ARGS__ }
#define LIST(name_, fields_, ...)                                                                                      \
    { .name = (name_), .kind = PARAMETER_LIST, .fields = (fields_), __VA_ARGS__ }
#define METADATA(name_, ...)                                                                                           \
    { .name = (name_), .kind = PARAMETER_METADATA, __VA_ARGS__ }
#define END                                                                                                            \
    { .name = NULL }
#define REQUIRED .required = true
#define UNSET .unset = true
#define MOST(characters_) .maximum = (characters_)

enum {
    HEADLINE_MAX = 60,
    CUSTOM_MESSAGE_MAX = 500,
    PRODUCTS_MAX = 10,
    FLOW_ITEMS_MAX = 1,
    EXPAND_MAX = 20,
    LOOKUP_KEYS_MAX = 10,
    EMAIL_MAX = 512,
};

/* --- enums --- */

static const char *const locales[] = {
    "auto",  "bg",    "cs", "da",     "de", "el", "en",  "en-AU", "en-CA", "en-GB", "en-IE", "en-IN",
    "en-NZ", "en-SG", "es", "es-419", "et", "fi", "fil", "fr",    "fr-CA", "hr",    "hu",    "id",
    "it",    "ja",    "ko", "lt",     "lv", "ms", "mt",  "nb",    "nl",    "pl",    "pt",    "pt-BR",
    "ro",    "ru",    "sk", "sl",     "sv", "th", "tr",  "vi",    "zh",    "zh-HK", "zh-TW", NULL};
static const char *const flow_types[] = {"payment_method_update", "subscription_cancel", "subscription_update",
                                         "subscription_update_confirm", NULL};
static const char *const completion_types[] = {"hosted_confirmation", "portal_homepage", "redirect", NULL};
static const char *const retention_types[] = {"coupon_offer", NULL};
static const char *const customer_updates[] = {"address", "email", "name", "phone", "shipping", "tax_id", NULL};
static const char *const subscription_updates[] = {"price", "promotion_code", "quantity", NULL};
static const char *const prorations[] = {"always_invoice", "create_prorations", "none", NULL};
static const char *const cancel_modes[] = {"at_period_end", "immediately", NULL};
static const char *const cancel_reasons[] = {
    "customer_service", "low_quality",   "missing_features", "other", "switched_service",
    "too_complex",      "too_expensive", "unused",           NULL};
static const char *const condition_types[] = {"decreasing_item_amount", "shortening_interval", NULL};
static const char *const intervals[] = {"day", "month", "week", "year", NULL};
static const char *const usage_types[] = {"licensed", "metered", NULL};
static const char *const price_types[] = {"one_time", "recurring", NULL};

/* --- elements of lists, and what several endpoints share --- */

static const struct parameter any_string[] = {STRING("")};
static const struct parameter any_customer_update[] = {ENUM("", customer_updates)};
static const struct parameter any_subscription_update[] = {ENUM("", subscription_updates)};
static const struct parameter any_cancel_reason[] = {ENUM("", cancel_reasons)};

#define EXPAND LIST("expand", any_string, MOST(EXPAND_MAX))
#define PAGE STRING("ending_before"), EXPAND, INTEGER("limit", .minimum = 1, .maximum = 100), STRING("starting_after")

static const struct parameter enabled[] = {BOOLEAN("enabled", REQUIRED), END};
static const struct parameter enabled_optional[] = {BOOLEAN("enabled"), END};

/* --- configurations --- */

static const struct parameter adjustable_quantity[] = {
    BOOLEAN("enabled", REQUIRED),
    INTEGER("maximum", .minimum = 0, .maximum = INT32_MAX),
    INTEGER("minimum", .minimum = 0, .maximum = INT32_MAX),
    END,
};
static const struct parameter product[] = {
    HASH("adjustable_quantity", adjustable_quantity),
    LIST("prices", any_string, REQUIRED),
    STRING("product", REQUIRED),
    END,
};
static const struct parameter any_product[] = {HASH("", product)};
static const struct parameter condition[] = {ENUM("type", condition_types, REQUIRED), END};
static const struct parameter any_condition[] = {HASH("", condition)};

static const struct parameter create_schedule[] = {LIST("conditions", any_condition), END};
static const struct parameter update_schedule[] = {LIST("conditions", any_condition, UNSET), END};

static const struct parameter create_business_profile[] = {
    STRING("headline", UNSET, MOST(HEADLINE_MAX)),
    URL("privacy_policy_url"),
    URL("terms_of_service_url"),
    END,
};
static const struct parameter update_business_profile[] = {
    STRING("headline", UNSET, MOST(HEADLINE_MAX)),
    URL("privacy_policy_url", UNSET),
    URL("terms_of_service_url", UNSET),
    END,
};

static const struct parameter create_customer_update[] = {
    LIST("allowed_updates", any_customer_update, UNSET),
    BOOLEAN("enabled", REQUIRED),
    END,
};
static const struct parameter create_cancellation_reason[] = {
    BOOLEAN("enabled", REQUIRED),
    LIST("options", any_cancel_reason, UNSET, REQUIRED),
    END,
};
static const struct parameter create_subscription_cancel[] = {
    HASH("cancellation_reason", create_cancellation_reason),
    BOOLEAN("enabled", REQUIRED),
    ENUM("mode", cancel_modes),
    ENUM("proration_behavior", prorations),
    END,
};
static const struct parameter create_subscription_update[] = {
    LIST("default_allowed_updates", any_subscription_update, UNSET),
    BOOLEAN("enabled", REQUIRED),
    LIST("products", any_product, UNSET, MOST(PRODUCTS_MAX)),
    ENUM("proration_behavior", prorations),
    HASH("schedule_at_period_end", create_schedule),
    END,
};
static const struct parameter create_features[] = {
    HASH("customer_update", create_customer_update),
    HASH("invoice_history", enabled),
    HASH("payment_method_update", enabled),
    HASH("subscription_cancel", create_subscription_cancel),
    HASH("subscription_pause", enabled_optional),
    HASH("subscription_update", create_subscription_update),
    END,
};

static const struct parameter update_customer_update[] = {
    LIST("allowed_updates", any_customer_update, UNSET),
    BOOLEAN("enabled"),
    END,
};
static const struct parameter update_cancellation_reason[] = {
    BOOLEAN("enabled", REQUIRED),
    LIST("options", any_cancel_reason, UNSET),
    END,
};
static const struct parameter update_subscription_cancel[] = {
    HASH("cancellation_reason", update_cancellation_reason),
    BOOLEAN("enabled"),
    ENUM("mode", cancel_modes),
    ENUM("proration_behavior", prorations),
    END,
};
static const struct parameter update_subscription_update[] = {
    LIST("default_allowed_updates", any_subscription_update, UNSET),
    BOOLEAN("enabled"),
    LIST("products", any_product, UNSET, MOST(PRODUCTS_MAX)),
    ENUM("proration_behavior", prorations),
    HASH("schedule_at_period_end", update_schedule),
    END,
};
static const struct parameter update_features[] = {
    HASH("customer_update", update_customer_update),
    HASH("invoice_history", enabled),
    HASH("payment_method_update", enabled),
    HASH("subscription_cancel", update_subscription_cancel),
    HASH("subscription_pause", enabled_optional),
    HASH("subscription_update", update_subscription_update),
    END,
};

const struct parameter parameters_configuration_list[] = {BOOLEAN("active"), BOOLEAN("is_default"), PAGE, END};
const struct parameter parameters_configuration_retrieve[] = {EXPAND, END};
const struct parameter parameters_configuration_create[] = {
    HASH("business_profile", create_business_profile),
    URL("default_return_url", UNSET),
    EXPAND,
    HASH("features", create_features, REQUIRED),
    HASH("login_page", enabled),
    METADATA("metadata"),
    STRING("name", UNSET),
    END,
};
const struct parameter parameters_configuration_update[] = {
    BOOLEAN("active"),
    HASH("business_profile", update_business_profile),
    URL("default_return_url", UNSET),
    EXPAND,
    HASH("features", update_features),
    HASH("login_page", enabled),
    METADATA("metadata", UNSET),
    STRING("name", UNSET),
    END,
};

/* --- sessions --- */

static const struct parameter hosted_confirmation[] = {STRING("custom_message", MOST(CUSTOM_MESSAGE_MAX)), END};
static const struct parameter redirect[] = {URL("return_url", REQUIRED), END};
static const struct parameter after_completion[] = {
    HASH("hosted_confirmation", hosted_confirmation),
    HASH("redirect", redirect),
    ENUM("type", completion_types, REQUIRED),
    END,
};
static const struct parameter coupon_offer[] = {STRING("coupon", REQUIRED), END};
static const struct parameter retention[] = {
    HASH("coupon_offer", coupon_offer, REQUIRED),
    ENUM("type", retention_types, REQUIRED),
    END,
};
static const struct parameter flow_cancel[] = {
    HASH("retention", retention),
    STRING("subscription", REQUIRED),
    END,
};
static const struct parameter flow_update[] = {STRING("subscription", REQUIRED), END};
static const struct parameter discount[] = {STRING("coupon"), STRING("promotion_code"), END};
static const struct parameter any_discount[] = {HASH("", discount)};
static const struct parameter item[] = {
    STRING("id", REQUIRED),
    STRING("price"),
    INTEGER("quantity", .minimum = 0, .maximum = INT32_MAX),
    END,
};
static const struct parameter any_item[] = {HASH("", item)};
static const struct parameter flow_confirm[] = {
    LIST("discounts", any_discount, MOST(FLOW_ITEMS_MAX)),
    LIST("items", any_item, REQUIRED, MOST(FLOW_ITEMS_MAX)),
    STRING("subscription", REQUIRED),
    END,
};
static const struct parameter flow_data[] = {
    HASH("after_completion", after_completion), HASH("subscription_cancel", flow_cancel),
    HASH("subscription_update", flow_update),   HASH("subscription_update_confirm", flow_confirm),
    ENUM("type", flow_types, REQUIRED),         END,
};
const struct parameter parameters_session_create[] = {
    STRING("configuration"),
    STRING("customer", REQUIRED),
    EXPAND,
    HASH("flow_data", flow_data),
    ENUM("locale", locales),
    STRING("on_behalf_of"),
    URL("return_url"),
    END,
};

/* --- customers, prices and products --- */

static const struct parameter range[] = {INTEGER("gt"), INTEGER("gte"), INTEGER("lt"), INTEGER("lte"), END};
static const struct parameter recurring[] = {
    ENUM("interval", intervals),
    STRING("meter"),
    ENUM("usage_type", usage_types),
    END,
};
const struct parameter parameters_price_list[] = {
    BOOLEAN("active"),
    {.name = "created", .kind = PARAMETER_RANGE, .fields = range},
    STRING("currency"),
    PAGE,
    LIST("lookup_keys", any_string, MOST(LOOKUP_KEYS_MAX)),
    STRING("product"),
    HASH("recurring", recurring),
    ENUM("type", price_types),
    END,
};
const struct parameter parameters_customer_list[] = {
    {.name = "created", .kind = PARAMETER_RANGE, .fields = range},
    STRING("email", MOST(EMAIL_MAX)),
    PAGE,
    STRING("test_clock"),
    END,
};
const struct parameter parameters_product_retrieve[] = {EXPAND, END};
