/* check-stripe.c — does Stripe take the key, may it do what a worker does, and is there a portal configuration? */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "dialogue.h"

#define CONFIGURATIONS "/v1/billing_portal/configurations"

/* What a worker does. What would make something is sent with a value that Stripe refuses, but only after it has looked
 * at the key's rights: 400 says that the right is there, as 404 does where something is read that nobody has. */
static const struct probe {
    const char *what, *right;
    int status; /* that says so */
    bool post;
    const char *path, *form;
} probes[] = {
    {"right to read prices", "Prices: Read", 200, false, "/v1/prices?limit=1", NULL},
    {"right to read products", "Products: Read", 404, false, "/v1/products/portalctl_check", NULL},
    {"right to read portal configurations", "Customer portal: Write", 200, false, CONFIGURATIONS "?limit=1", NULL},
    {"right to make portal configurations", "Customer portal: Write", 400, true, CONFIGURATIONS,
     "features[payment_method_update][enabled]=portalctl-check"},
    {"right to make portal sessions", "Customer portal: Write", 400, true, "/v1/billing_portal/sessions", "customer="},
};

/* One exchange, waited for. */
struct asking {
    struct stripe_exchange exchange; /* first, so that one can be had from the other */
    bool done;
    json_t *answer; /* or NULL */
};

static void on_done(struct stripe_exchange *exchange) {
    struct asking *asking = (struct asking *)exchange;
    asking->done = true;
    if (exchange->body)
        asking->answer = json_loadb(exchange->body, exchange->body_length, 0, NULL);
}

static void ask(struct stripe *stripe, sd_event *event, struct asking *asking, const struct probe *probe) {
    const struct stripe_link link = stripe_link(stripe);
    char name[9];
    char key[64];
    dialogue_random_name(name);
    (void)snprintf(key, sizeof key, "portalctl-check-%s", name);
    *asking = (struct asking){.exchange = {.post = probe->post,
                                           .path = probe->path,
                                           .form = probe->form,
                                           .idempotency_key = probe->post ? key : NULL,
                                           .done = on_done}};
    link.start(link.self, &asking->exchange);
    while (!asking->done && sd_event_run(event, UINT64_MAX) >= 0)
        ;
}

static void check_right(struct checker *checker, struct stripe *stripe, sd_event *event, const struct probe *probe) {
    struct asking asking;
    char fix[160];
    ask(stripe, event, &asking, probe);
    const struct stripe_exchange *exchange = &asking.exchange;
    (void)snprintf(fix, sizeof fix, "give the restricted key \"%s\" in Stripe's dashboard, under API keys",
                   probe->right);
    if (exchange->status == probe->status)
        check_tell(checker, CHECK_GOOD, probe->what, NULL, "allowed");
    else if (exchange->status == 403)
        check_tell(checker, CHECK_BAD, probe->what, fix, "Stripe refuses it (403)");
    else if (exchange->error)
        check_tell(checker, CHECK_BAD, probe->what, NULL, "%s", exchange->explanation);
    else
        check_tell(checker, CHECK_DOUBTFUL, probe->what, "try again later", "Stripe answered %d", exchange->status);
    json_decref(asking.answer);
}

/* The configuration that customers would get. */
static void check_configuration(struct checker *checker, const struct portal_settings *settings, struct stripe *stripe,
                                sd_event *event) {
    char path[320] = CONFIGURATIONS "?active=true&limit=1";
    const char *id = settings->fixed_configuration;
    struct asking asking;
    if (settings->policy == POLICY_PER_PRODUCT) {
        check_tell(checker, CHECK_GOOD, "portal configuration", NULL, "one for each product, made by the workers");
        return;
    }
    if (id)
        (void)snprintf(path, sizeof path, CONFIGURATIONS "/%s", id);
    ask(stripe, event, &asking, &(struct probe){.path = path});
    const json_t *first = json_array_get(json_object_get(asking.answer, "data"), 0);
    bool active = json_is_true(json_object_get(asking.answer, "active"));
    if (asking.exchange.status == 200 && id && active)
        check_tell(checker, CHECK_GOOD, "portal configuration", NULL, "%s, for all", id);
    else if (id && (asking.exchange.status == 200 || asking.exchange.status == 404))
        check_tell(checker, CHECK_BAD, "portal configuration", "set PORTAL_CONFIGURATION to one that is, or to shared",
                   "%s is %s", id, asking.exchange.status == 200 ? "not active" : "unknown to this account");
    else if (asking.exchange.status == 200)
        check_tell(checker, CHECK_GOOD, "portal configuration", NULL, "%s",
                   first ? json_string_value(json_object_get(first, "id"))
                         : "none yet; the first request makes one, for all");
    else
        check_tell(checker, CHECK_BAD, "portal configuration", "try again later", "Stripe answered %d",
                   asking.exchange.status);
    json_decref(asking.answer);
}

static void check_rest(struct checker *checker, const struct settings *settings) {
    sd_event *event = NULL;
    struct stripe *stripe = NULL;
    if (sd_event_new(&event) < 0 || stripe_new(&settings->stripe, event, &stripe) < 0)
        check_tell(checker, CHECK_BAD, "Stripe", NULL, "out of memory");
    else {
        for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
            check_right(checker, stripe, event, &probes[i]);
        check_configuration(checker, &settings->portal, stripe, event);
    }
    stripe_free(stripe);
    sd_event_unref(event);
}

void check_stripe(struct checker *checker) {
    static const char *const names[] = {"STRIPE_SECRET_KEY",         "STRIPE_API_BASE",
                                        "STRIPE_API_VERSION",        "STRIPE_CONCURRENCY",
                                        "STRIPE_CONNECT_TIMEOUT_MS", "STRIPE_ANSWER_TIMEOUT_MS",
                                        "STRIPE_TIMEOUT_MS",         "STRIPE_CA_FILE",
                                        "PORTAL_CONFIGURATION",      NULL};
    AUTOSETTINGS struct settings settings = {0};
    char error[512] = "";
    if (!check_load(checker, "Stripe", &settings, names))
        return;
    const char *mode = settings.portal.livemode ? "live mode" : "test mode";
    const char *kind = strncmp(settings.stripe.secret_key, "rk_", 3) == 0 ? "restricted" : "secret";
    if (stripe_check(&settings.stripe, error, sizeof error) < 0) {
        check_tell(checker, CHECK_BAD, "Stripe",
                   "the key is in Stripe's dashboard, under API keys; STRIPE_API_BASE is for emulators", "%s", error);
        return;
    }
    check_tell(checker, CHECK_GOOD, "Stripe", NULL, "takes the key: %s, %s key", mode, kind);
    check_rest(checker, &settings);
}
