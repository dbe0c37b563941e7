/* stripe-api.c — Stripe itself: what each endpoint does, what is remembered under an idempotency key for 24 hours, and
 * every way in which it can go wrong. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "promises.h"
#include "world.h"

enum {
    KEY_BUCKETS = 1024,
    CONFIGURATIONS_MAX = 200,
    LIMIT_PER_SECOND = 200, /* Stripe's own, far above what a fleet may */
    MEMORY_HOURS = 24,
};

/* What a call led to, before it is worded. */
struct result {
    int status;
    enum {
        BODY_SESSION,
        BODY_CONFIGURATION,
        BODY_LIST,
        BODY_PRODUCT,
        BODY_PRICES,
        BODY_ERROR,
        BODY_HTML,
        BODY_EMPTY
    } kind;
    int64_t number; /* of the session or configuration */
    const char *type, *code, *param;
    bool wrong_customer;
    bool keep; /* under its key */
};

struct key_record {
    struct key_record *next;
    uint64_t hash, form_hash;
    uint64_t busy_until, expires_at;
    struct result result;
    bool used_up;  /* somebody was told what leaves nothing to be had from it */
    uint64_t told; /* which delivery was, last */
    unsigned times;
};

struct stripe_world {
    struct world_session *sessions;
    size_t session_count, session_size;
    struct world_configuration configurations[CONFIGURATIONS_MAX];
    unsigned configuration_count;
    unsigned product_versions[PRODUCTS_MAX + 1];
    struct key_record *keys[KEY_BUCKETS];
};

struct world_session *stripe_session(struct world *world, int64_t number) {
    return number >= 0 && (size_t)number < world->stripe->session_count ? &world->stripe->sessions[number] : NULL;
}

static struct result failure(int status, const char *type, const char *code, const char *param) {
    return (struct result){
        .status = status, .kind = BODY_ERROR, .number = -1, .type = type, .code = code, .param = param};
}

/* ---- forms ---- */

/* The value of a field, up to the next "&"; NULL where it is absent. */
static const char *field(const char *form, const char *name) {
    size_t length = strlen(name);
    for (const char *at = form; (at = strstr(at, name)); at += length)
        if ((at == form || at[-1] == '&' || at[-1] == '?') && at[length] == '=')
            return at + length + 1;
    return NULL;
}

static bool field_is(const char *form, const char *name, const char *value) {
    const char *found = field(form, name);
    size_t length = strlen(value);
    return found && strncmp(found, value, length) == 0 && (found[length] == '&' || found[length] == '\0');
}

static int64_t field_number(const char *form, const char *name, const char *prefix) {
    const char *found = field(form, name);
    size_t length = strlen(prefix);
    if (!found || strncmp(found, prefix, length) != 0)
        return -1;
    return (int64_t)strtoul(found + length, NULL, 10);
}

/* ---- sessions ---- */

static uint8_t path_of(const char *form) {
    static const char *const encoded[4] = {
        "https%3A%2F%2Fapp.example%2Fdashboard", "https%3A%2F%2Fapp.example%2Fbilling",
        "https%3A%2F%2Fapp.example%2Fa%2Fb%3Ftab%3Dplan", "https%3A%2F%2Fapp.example%2Fx"};
    for (uint8_t i = 0; i < 4; i++)
        if (field_is(form, "return_url", encoded[i]))
            return i;
    return UINT8_MAX;
}

static uint8_t flow_of(const char *form) {
    static const char *const types[] = {"", "payment_method_update", "subscription_cancel", "subscription_update",
                                        "subscription_update_confirm"};
    if (!field(form, "flow_data[type]"))
        return FLOW_NONE;
    for (unsigned i = FLOW_PAYMENT; i <= FLOW_CONFIRM; i++)
        if (field_is(form, "flow_data[type]", types[i]))
            return (uint8_t)i;
    return UINT8_MAX;
}

static uint8_t locale_of(const char *form) {
    for (uint8_t i = 1; i < 3; i++)
        if (field_is(form, "locale", scenario_locales[i]))
            return i;
    return field(form, "locale") ? UINT8_MAX : 0;
}

static int64_t make_session(struct world *world, const char *form, unsigned customer, unsigned configuration) {
    struct stripe_world *stripe = world->stripe;
    if (stripe->session_count == stripe->session_size) {
        stripe->session_size = stripe->session_size > 0 ? 2 * stripe->session_size : 64;
        stripe->sessions = realloc(stripe->sessions, stripe->session_size * sizeof *stripe->sessions);
        if (!stripe->sessions)
            abort();
    }
    stripe->sessions[stripe->session_count] = (struct world_session){.created = world_seconds(world),
                                                                     .customer = customer,
                                                                     .path = path_of(form),
                                                                     .locale = locale_of(form),
                                                                     .flow = flow_of(form),
                                                                     .configuration = configuration};
    world->statistics->sessions++;
    return (int64_t)stripe->session_count++;
}

static struct result post_session(struct world *world, const struct call *call) {
    int64_t customer = field_number(call->form, "customer", "cus_");
    int64_t configuration = field_number(call->form, "configuration", "bpc_");
    const struct stripe_world *stripe = world->stripe;
    unsigned team = customer > 0 ? (unsigned)customer % CUSTOMER_STEP : 0;
    if (team == 0 || team > TEAMS_MAX || world->scenario->team_kinds[team] == TEAM_CUSTOMER_GONE)
        return failure(400, "invalid_request_error", "resource_missing", "customer");
    if (configuration < 0 || configuration >= stripe->configuration_count)
        return failure(400, "invalid_request_error", "resource_missing", "configuration");
    if (!stripe->configurations[configuration].active)
        return failure(400, "invalid_request_error", "", "configuration");
    return (struct result){.status = 200,
                           .kind = BODY_SESSION,
                           .number = make_session(world, call->form, (unsigned)customer, (unsigned)configuration),
                           .keep = true};
}

/* ---- configurations, products, prices ---- */

static struct result post_configuration(struct world *world, const struct call *call) {
    struct stripe_world *stripe = world->stripe;
    static const char path[] = "/v1/billing_portal/configurations";
    if (strlen(call->path) > strlen(path)) {
        int64_t number = (int64_t)strtoul(call->path + strlen(path) + strlen("/bpc_"), NULL, 10);
        if (number >= stripe->configuration_count)
            return failure(404, "invalid_request_error", "resource_missing", "configuration");
        return (struct result){.status = 200, .kind = BODY_CONFIGURATION, .number = number};
    }
    if (stripe->configuration_count == CONFIGURATIONS_MAX)
        abort();
    struct world_configuration *made = &stripe->configurations[stripe->configuration_count];
    int64_t product = field_number(call->form, "features[subscription_update][products][0][product]", "prod_");
    const char *mark = field(call->form, "metadata[" FEATURES_METADATA "]");
    *made = (struct world_configuration){.active = true, .ours = true, .product = product > 0 ? (unsigned)product : 0};
    if (mark) { /* "product%2Fprod_3" */
        size_t length = strcspn(mark, "&");
        (void)snprintf(made->mark, sizeof made->mark, "product/%.*s", (int)(length - strlen("product%2F")),
                       mark + strlen("product%2F"));
    }
    return (struct result){
        .status = 200, .kind = BODY_CONFIGURATION, .number = stripe->configuration_count++, .keep = true};
}

static struct result perform(struct world *world, const struct call *call) {
    bool configurations = strncmp(call->path, "/v1/billing_portal/configurations", 33) == 0;
    if (call->post)
        return configurations ? post_configuration(world, call) : post_session(world, call);
    if (configurations)
        return (struct result){.status = 200, .kind = BODY_LIST};
    if (strncmp(call->path, "/v1/products/prod_", 18) == 0)
        return (struct result){
            .status = 200, .kind = BODY_PRODUCT, .number = (int64_t)strtoul(call->path + 18, NULL, 10)};
    return (struct result){
        .status = 200, .kind = BODY_PRICES, .number = field_number(strchr(call->path, '?'), "product", "prod_")};
}

/* ---- words ---- */

static char *print(const char *format, ...) {
    va_list arguments;
    char *text = NULL;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        abort();
    return text;
}

static char *word_session(const struct world *world, const struct result *result) {
    const struct world_session *session = &world->stripe->sessions[result->number];
    const char *path = session->path < 4 ? scenario_paths[session->path] : "/unknown";
    return print(
        "{\"id\":\"bps_%lld\",\"object\":\"billing_portal.session\",\"url\":\"https://billing.stripe.com/p/"
        "session/%lld\",\"customer\":\"cus_%u\",\"return_url\":\"" BASE_URL "%s\",\"configuration\":\"bpc_%u\","
        "\"created\":%llu,\"livemode\":false,\"locale\":null,\"flow\":null}",
        (long long)result->number, (long long)result->number, result->wrong_customer ? 999999 : session->customer, path,
        session->configuration, (unsigned long long)session->created);
}

static unsigned page_size(const struct world *world, const struct call *call) {
    int64_t limit = field_number(strchr(call->path, '?'), "limit", "");
    return limit > 0 && limit < world->scenario->page ? (unsigned)limit : world->scenario->page;
}

/* Newest first, as Stripe lists. */
static char *word_list(const struct world *world, const struct call *call) {
    const struct stripe_world *stripe = world->stripe;
    int64_t after = field_number(strchr(call->path, '?'), "starting_after", "bpc_");
    int64_t next = after >= 0 ? after - 1 : (int64_t)stripe->configuration_count - 1;
    unsigned left = page_size(world, call);
    struct text text = {0};
    text_append(&text, "{\"object\":\"list\",\"data\":[");
    const char *comma = "";
    for (; next >= 0 && left > 0; next--) {
        const struct world_configuration *configuration = &stripe->configurations[next];
        if (!configuration->active)
            continue;
        text_appendf(&text, "%s{\"id\":\"bpc_%lld\",\"active\":true,\"metadata\":{", comma, (long long)next);
        if (configuration->mark[0] != '\0')
            text_appendf(&text, "\"" FEATURES_METADATA "\":\"%s\"", configuration->mark);
        text_append(&text, "}}");
        comma = ",";
        left--;
    }
    while (next >= 0 && !stripe->configurations[next].active)
        next--;
    text_appendf(&text, "],\"has_more\":%s}", next >= 0 ? "true" : "false");
    return text_take(&text);
}

static char *word_prices(const struct world *world, const struct call *call, int64_t product) {
    bool known = product > 0 && product <= PRODUCTS_MAX;
    unsigned count = known ? world->scenario->product_prices[product] : 0;
    unsigned version = known ? world->stripe->product_versions[product] : 0;
    const char *after = field(strchr(call->path, '?'), "starting_after");
    unsigned next = 0;
    if (after) {
        unsigned long first = strtoul(after + strlen("price_"), NULL, 10);
        (void)first;
        const char *last = strrchr(after, '_');
        next = (unsigned)strtoul(last + 1, NULL, 10) + 1;
    }
    struct text text = {0};
    text_append(&text, "{\"object\":\"list\",\"data\":[");
    unsigned end = next + page_size(world, call);
    const char *comma = "";
    for (; next < count && next < end; next++, comma = ",")
        text_appendf(&text, "%s{\"id\":\"price_%lld_%u_%u\",\"active\":true}", comma, (long long)product, version,
                     next);
    text_appendf(&text, "],\"has_more\":%s}", next < count ? "true" : "false");
    return text_take(&text);
}

static char *word(struct world *world, const struct call *call, const struct result *result) {
    switch (result->kind) {
    case BODY_SESSION:
        return word_session(world, result);
    case BODY_CONFIGURATION:
        return print("{\"id\":\"bpc_%lld\",\"active\":true}", (long long)result->number);
    case BODY_LIST:
        return word_list(world, call);
    case BODY_PRODUCT: {
        bool known = result->number > 0 && result->number <= PRODUCTS_MAX;
        bool active = known && !world->scenario->product_inactive[result->number];
        return print("{\"id\":\"prod_%lld\",\"active\":%s}", (long long)result->number, active ? "true" : "false");
    }
    case BODY_PRICES:
        return word_prices(world, call, result->number);
    case BODY_EMPTY:
        return print("{}");
    case BODY_HTML:
        return print("<html><body>Service unavailable</body></html>");
    case BODY_ERROR:
        break;
    }
    return print("{\"error\":{\"type\":\"%s\",\"code\":\"%s\",\"message\":\"simulated\",\"param\":\"%s\"}}",
                 result->type, result->code, result->param);
}

/* ---- idempotency ---- */

static struct key_record *find_key(struct world *world, const char *key, bool make) {
    uint64_t hash = hash_bytes(key, strlen(key));
    struct key_record **bucket = &world->stripe->keys[hash % KEY_BUCKETS], *record;
    for (record = *bucket; record; record = record->next)
        if (record->hash == hash)
            return record;
    if (!make)
        return NULL;
    record = world_alloc(world, sizeof *record);
    record->hash = hash;
    record->next = *bucket;
    *bucket = record;
    return record;
}

/* Which failure is put in the place of a result, and kept under the key. */
enum mishap { MISHAP_NONE, MISHAP_500_KEPT, MISHAP_503_KEPT_AFTER, MISHAP_WRONG_CUSTOMER, MISHAP_HTML, MISHAP_EMPTY };

static struct result perform_with(struct world *world, const struct call *call, enum mishap mishap) {
    struct result result;
    switch (mishap) {
    case MISHAP_500_KEPT: /* nothing was done */
        result = failure(500, "api_error", "", "");
        result.keep = true;
        return result;
    case MISHAP_503_KEPT_AFTER: /* all was done */
        (void)perform(world, call);
        result = failure(503, "api_error", "", "");
        result.keep = true;
        return result;
    case MISHAP_WRONG_CUSTOMER:
        result = perform(world, call);
        result.wrong_customer = result.kind == BODY_SESSION;
        return result;
    case MISHAP_HTML:
    case MISHAP_EMPTY:
        result = perform(world, call);
        return (struct result){
            .status = 200, .kind = mishap == MISHAP_HTML ? BODY_HTML : BODY_EMPTY, .keep = result.keep};
    case MISHAP_NONE:
        break;
    }
    result = perform(world, call);
    if (result.status >= 400 && chance_in(&world->stripe_chance, 1, 2))
        result.keep = true; /* some refusals are kept, too */
    return result;
}

/* An answer after which the same key is of no more use. */
static bool leaves_nothing(const struct world *world, const struct call *call, const struct result *result) {
    if (strcmp(result->type ? result->type : "", "idempotency_error") == 0 && result->status != 409)
        return true;
    if (strcmp(result->param ? result->param : "", "configuration") == 0)
        return true;
    if (!call->replayed)
        return false;
    if (result->status >= 500 || result->kind == BODY_HTML || result->kind == BODY_EMPTY || result->wrong_customer)
        return true;
    const struct world_session *session = &world->stripe->sessions[result->kind == BODY_SESSION ? result->number : 0];
    return result->kind == BODY_SESSION && world_seconds(world) + UINT64_C(2) * SESSION_MARGIN_SECONDS >=
                                               session->created + world->scenario->settings.session_seconds;
}

static struct result serve_keyed(struct world *world, struct call *call, enum mishap mishap, uint64_t takes) {
    struct key_record *record = find_key(world, call->key, true);
    uint64_t form_hash = hash_bytes(call->form, strlen(call->form)), now = world->clock.now;
    call->record = record;
    if (record->expires_at > now) {
        if (record->busy_until > now)
            return failure(409, "idempotency_error", "idempotency_key_in_use", "");
        if (record->form_hash != form_hash)
            return failure(400, "idempotency_error", "", "");
        call->replayed = true;
        return record->result;
    }
    struct result result = perform_with(world, call, mishap);
    if (!result.keep)
        return result;
    record->form_hash = form_hash;
    record->busy_until = now + takes;
    record->expires_at = now + MEMORY_HOURS * UINT64_C(3600) * SECOND_US;
    record->result = result;
    return result;
}

/* ---- weather ---- */

/* Trouble before anything is done. Result: whether the call ends with it. */
static bool fail_before(struct world *world, struct call *call, struct result *result) {
    struct chance *chance = &world->stripe_chance;
    bool flaky = world_has(world, FAULT_STRIPE_FLAKY) && chance_in(chance, 1, 4);
    bool half =
        world_has(world, FAULT_STRIPE_HALF) && call->post && strcmp(call->path, "/v1/billing_portal/sessions") == 0;
    if (world_has(world, FAULT_STRIPE_RESETS) || (flaky && chance_in(chance, 1, 4)))
        call->error = chance_in(chance, 1, 2) ? -ECONNREFUSED : -ECONNRESET;
    else if (world_has(world, FAULT_STRIPE_HANGS)) {
        call->error = -ETIMEDOUT;
        call->respond = false;
    } else if (world_has(world, FAULT_STRIPE_DENIES))
        *result = failure(chance_in(chance, 1, 2) ? 401 : 403, "invalid_request_error", "", "");
    else if (world_has(world, FAULT_STRIPE_LIMITS) && chance_in(chance, 3, 4)) {
        *result = failure(429, "invalid_request_error", "rate_limit", "");
        if (chance_in(chance, 1, 2))
            call->retry_after_ms = (int64_t)chance_below(chance, 4) * 1500;
    } else if (world_has(world, FAULT_STRIPE_BROKEN) || half || (flaky && chance_in(chance, 1, 3))) {
        *result = failure(chance_in(chance, 1, 2) ? 500 : 503, "api_error", "", "");
        if (chance_in(chance, 1, 3))
            result->kind = BODY_HTML;
        if (chance_in(chance, 1, 3))
            call->should_retry = 1;
    } else if (world_has(world, FAULT_STRIPE_FINAL) && chance_in(chance, 1, 5)) {
        *result = failure(500, "api_error", "", "");
        call->should_retry = 0;
    } else
        return false;
    return call->error == 0 || chance_in(chance, 1, 2); /* no answer, yet it may have been done */
}

static enum mishap draw_mishap(struct world *world) {
    struct chance *chance = &world->stripe_chance;
    if (world_has(world, FAULT_STRIPE_LIES) && chance_in(chance, 1, 5))
        return (enum mishap)(MISHAP_WRONG_CUSTOMER + (int)chance_below(chance, 3));
    if (world_has(world, FAULT_STRIPE_FLAKY) && chance_in(chance, 1, 4))
        return chance_in(chance, 1, 2) ? MISHAP_500_KEPT : MISHAP_503_KEPT_AFTER;
    return MISHAP_NONE;
}

uint64_t stripe_serve(struct world *world, struct call *call) {
    struct result result = {.status = 0};
    uint64_t takes = chance_latency(&world->stripe_chance, world->scenario->stripe_us);
    if (fail_before(world, call, &result)) {
        if (call->error == 0) {
            call->status = result.status;
            call->body = word(world, call, &result);
        }
        return takes / 4;
    }
    enum mishap mishap = draw_mishap(world);
    result = call->key[0] != '\0' ? serve_keyed(world, call, mishap, takes) : perform_with(world, call, mishap);
    call->uses_up = leaves_nothing(world, call, &result);
    if (call->error == 0) {
        call->status = result.status;
        call->body = word(world, call, &result);
    }
    return takes;
}

void stripe_served(struct world *world, struct call *call) {
    (void)world;
    if (!call->record || call->error != 0)
        return;
    call->record->used_up |= call->uses_up;
    call->record->times = call->uses_up && call->record->told == call->asker ? call->record->times + 1 : call->uses_up;
    call->record->told = call->uses_up ? call->asker : 0;
}

/* ---- what promises.c asks ---- */

bool stripe_key_is_used_up(struct world *world, const char *key) {
    const struct key_record *record = find_key(world, key, false);
    return record && record->used_up;
}

unsigned stripe_told_used_up(struct world *world, const char *key, uint64_t asker) {
    const struct key_record *record = find_key(world, key, false);
    return record && record->told == asker ? record->times : 0;
}

const char *stripe_mark(const struct world *world, unsigned configuration) {
    return world->stripe->configurations[configuration].mark;
}

unsigned stripe_active_of_ours(const struct world *world, const char *mark) {
    unsigned count = 0;
    for (unsigned i = 0; i < world->stripe->configuration_count; i++)
        count += world->stripe->configurations[i].active && world->stripe->configurations[i].ours &&
                 strcmp(world->stripe->configurations[i].mark, mark) == 0;
    return count;
}

/* ---- changes ---- */

/* The newest active one, but for the one that settings and requests choose. */
void stripe_configuration_gone(struct world *world) {
    struct stripe_world *stripe = world->stripe;
    for (unsigned i = stripe->configuration_count; i-- > 1;)
        if (stripe->configurations[i].active) {
            stripe->configurations[i].active = false;
            TRACE(world, NULL, "bpc_%u is no longer active", i);
            return;
        }
}

void stripe_product_changes(struct world *world, unsigned product) {
    world->stripe->product_versions[product % PRODUCTS_MAX + 1]++;
}

void stripe_new(struct world *world) {
    const struct scenario *scenario = world->scenario;
    struct stripe_world *stripe = calloc(1, sizeof *stripe);
    if (!stripe)
        abort();
    world->stripe = stripe;
    bool there = scenario->configuration_there || scenario->settings.policy == POLICY_FIXED;
    stripe->configurations[0].active = there;
    stripe->configuration_count = 1;
    if (scenario->configuration_there)
        stripe->configurations[stripe->configuration_count++].active = true;
}

void stripe_free(struct world *world) {
    struct call *call;
    while ((call = TAILQ_FIRST(&world->orphans))) {
        TAILQ_REMOVE(&world->orphans, call, entry);
        call_free(call);
    }
    free(world->stripe->sessions);
    free(world->stripe);
}
