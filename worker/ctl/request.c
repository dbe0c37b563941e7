/* request.c — portalctl request: asks for one session as a service would, and says what came of it. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dialogue.h"
#include "look.h"
#include "portal/request.h"
#include "portal/text.h"
#include "portalctl.h"
#include "reply-print.h"

enum { WAIT_SECONDS = 60, STEP_MS = 200 };

/* What the command line says. */
struct wish {
    json_t *body;
    const char *subscription, *reply_to;
    uint64_t generation;
    uint64_t wait_seconds;
    bool no_wait, json;
};

/* What came. */
struct outcome {
    json_t *reply;
    enum dialogue_end end;
    bool ended;
};

static void help(FILE *out) {
    fputs("Usage: portalctl request --team ID|--user ID [OPTION…]\n\n"
          "Asks for one portal session, as a service would: sends the request, waits for the reply and\n"
          "prints it. The URL in it lets whoever has it into the customer's portal.\n\n"
          "  --team ID            the team, asked for by a trusted service\n"
          "  --user ID            the signed-in user; with --team, who has to be a member of that team\n"
          "  --id ID              the request_id; default: a new one\n"
          "  --return-path PATH   where the portal leads back to; default /dashboard\n"
          "  --locale CODE        the portal's language: auto, en, de, pt-BR, …\n"
          "  --flow TYPE|JSON     a deep link: payment_method_update, subscription_cancel,\n"
          "                       subscription_update, or the contract's object as JSON\n"
          "  --subscription ID    the flow's subscription\n"
          "  --configuration ID   a portal configuration, bpc_…\n"
          "  --fresh              a session of its own, shared with no other request\n"
          "  --deadline TIME      RFC 3339; after it nobody waits any more\n"
          "  --generation N       work it anew where the stored answer is of an earlier generation\n"
          "  --timeout SPAN       how long to wait for the reply, or with --no-wait for RabbitMQ; default 60s\n"
          "  --no-wait            only send it; the reply goes to --reply-to\n"
          "  --reply-to QUEUE     with --no-wait; default portal.replies\n"
          "  --json               print the reply as it came\n\n"
          "Examples:\n"
          "  portalctl request --team 42\n"
          "  portalctl request --user 7 --flow payment_method_update\n"
          "  portalctl request --team 42 --flow subscription_cancel --subscription sub_123 --json\n\n"
          "Exit status: 0 created or reused (or sent); 2 redirect; 3 failed for good; 4 failed, but may\n"
          "work later; 75 no reply in time; and those of \"portalctl --help\". Needs AMQP_URL.\n",
          out);
}

/* ---- the request ---- */

static int set_text(struct wish *wish, const char *field, const char *text) {
    if (json_object_set_new(wish->body, field, json_string(text)) < 0)
        return ctl_complain(CTL_USAGE, NULL, "%s: has to be text in UTF-8", field);
    return 0;
}

static int set_id(struct wish *wish, const char *title, const char *option, const char *field, const char *text) {
    uint64_t id = 0;
    int r = ctl_read_number(title, option, text, 1, INT64_MAX, &id);
    if (r == 0 && json_object_set_new(wish->body, field, json_integer((json_int_t)id)) < 0)
        r = ctl_complain(CTL_FAILED, NULL, "out of memory");
    return r;
}

static int set_flow(struct wish *wish, const char *title, const char *text) {
    json_error_t error;
    json_t *flow = *text == '{' ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : json_pack("{ss}", "type", text);
    if (!flow)
        return ctl_misused(title, "--flow: %s", *text == '{' ? error.text : "has to be text in UTF-8");
    return json_object_set_new(wish->body, "flow", flow) < 0 ? ctl_complain(CTL_FAILED, NULL, "out of memory") : 0;
}

/* By the worker's own code, before anything is sent. Whom it may ask for and where replies may go is the worker's to
 * say. */
static int check(const struct wish *wish, const char *title, const char *body) {
    static char *const any[] = {(char *)"*", NULL};
    const struct request_rules rules = {.reply_queues = any};
    const struct delivery delivery = {.body = body, .body_length = strlen(body), .body_size = strlen(body)};
    struct request request;
    struct request_problem problem;
    int r = request_read(&delivery, &rules, ctl_wall(), &request, &problem);
    request_clear(&request);
    if (wish->no_wait && r == 0)
        r = request_check_reply_to(wish->reply_to, any, &problem);
    return r < 0 ? ctl_misused(title, "%s", r == -ENOMEM ? "out of memory" : problem.message) : 0;
}

static json_t *properties_of(const struct wish *wish, const char *id) {
    json_t *properties = json_pack("{ss ss ss sI s{}}", "message_id", id, "app_id", "portalctl", "user_id", "",
                                   "timestamp", (json_int_t)(ctl_wall() / 1000000), "headers");
    json_t *headers = json_object_get(properties, "headers");
    int r = properties ? 0 : -ENOMEM;
    if (r == 0 && wish->generation > 0)
        r = json_object_set_new(headers, "x-portal-generation", json_integer((json_int_t)wish->generation));
    if (r == 0 && wish->no_wait && wish->reply_to)
        r = json_object_set_new(properties, "reply_to", json_string(wish->reply_to));
    if (r == 0)
        return properties;
    json_decref(properties);
    return NULL;
}

/* ---- the reply ---- */

static void done(void *userdata, struct dialogue_request *request, enum dialogue_end end,
                 const struct wire_message *reply) {
    struct outcome *outcome = userdata;
    outcome->ended = true;
    outcome->end = end;
    if (reply)
        outcome->reply = reply_read(reply->body);
    dialogue_request_free(request);
}

/* Its time is over: the broker has it and nobody answers, or it does not even take it. */
static int tell_late(const struct wish *wish, const struct dialogue *dialogue, const char *id) {
    if (!dialogue->open[0]->confirmed)
        return ctl_complain(CTL_LATE, "\"portalctl check\" looks at RabbitMQ. It may take the request yet.",
                            "RabbitMQ did not take the request %s within %" PRIu64 " s", id, wish->wait_seconds);
    return ctl_complain(CTL_LATE,
                        "\"portalctl status\" shows what the workers do; the answer will be in \"portalctl sessions\".",
                        "no reply to %s within %" PRIu64 " s", id, wish->wait_seconds);
}

static int tell(const struct wish *wish, const struct outcome *outcome, const char *id) {
    if (outcome->end == DIALOGUE_TOO_LARGE)
        return ctl_complain(CTL_FAILED, NULL, "the request is too large to be sent");
    if (outcome->end == DIALOGUE_SENT) {
        if (wish->json)
            printf("{\"request_id\":\"%s\"}\n", id);
        else
            printf("sent %s\n", id);
        return CTL_DONE;
    }
    if (!outcome->reply)
        return ctl_complain(CTL_FAILED, NULL, "what came back is no reply of the contract");
    if (wish->json)
        (void)print_json(stdout, outcome->reply);
    else
        reply_print(stdout, outcome->reply);
    return reply_status(outcome->reply);
}

static int converse(struct dialogue *dialogue, const struct wish *wish, const char *id, struct outcome *outcome,
                    char *body) {
    struct dialogue_request *request = calloc(1, sizeof *request);
    json_t *properties = properties_of(wish, id);
    if (!request || !properties) {
        free(request);
        free(body);
        json_decref(properties);
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    }
    *request = (struct dialogue_request){.body = body,
                                         .body_length = strlen(body),
                                         .properties = properties,
                                         .awaited = !wish->no_wait,
                                         .patience_ms = UINT32_MAX};
    dialogue->wire.give_up_at = ctl_monotonic() + wish->wait_seconds * 1000000;
    dialogue_send(dialogue, request);
    while (!outcome->ended) {
        int r = dialogue_step(dialogue, STEP_MS);
        if (r == -ECANCELED)
            return ctl_complain(CTL_INTERRUPTED, "The answer will be in \"portalctl sessions\".",
                                "interrupted; the request %s may be worked all the same", id);
        if (r < 0)
            return r == -EHOSTUNREACH ? CTL_UNAVAILABLE : wire_complain(&dialogue->wire);
        if (!outcome->ended && ctl_monotonic() > dialogue->wire.give_up_at)
            return tell_late(wish, dialogue, id);
    }
    return tell(wish, outcome, id);
}

static int run(struct wish *wish, const char *title) {
    static const char *const names[] = {"AMQP_URL", NULL};
    AUTOSETTINGS struct settings settings = {0};
    struct outcome outcome = {0};
    struct dialogue dialogue = {.done = done, .userdata = &outcome};
    const char *id = json_string_value(json_object_get(wish->body, "request_id"));
    char *body = json_dumps(wish->body, JSON_COMPACT);
    if (!body)
        return ctl_complain(CTL_FAILED, NULL, "out of memory");
    int status = check(wish, title, body);
    status = status ? status : ctl_settings(&settings, names);
    int stop = status ? -1 : ctl_stop_open();
    if (status) {
        free(body);
        return status;
    }
    if (wish->wait_seconds < settings.broker.connect_seconds)
        settings.broker.connect_seconds = wish->wait_seconds > 0 ? (uint32_t)wish->wait_seconds : 1;
    if (dialogue_open(&dialogue, &settings.broker, stop, !wish->no_wait) < 0) {
        status = wire_complain(&dialogue.wire);
        free(body);
    } else
        status = converse(&dialogue, wish, id, &outcome, body);
    dialogue_close(&dialogue);
    json_decref(outcome.reply);
    (void)close(stop);
    return status;
}

/* ---- the command line ---- */

enum {
    TEAM = 256,
    USER,
    ID,
    RETURN_PATH,
    LOCALE,
    FLOW,
    SUBSCRIPTION,
    CONFIGURATION,
    FRESH,
    DEADLINE,
    GENERATION,
    TIMEOUT,
    NO_WAIT,
    REPLY_TO,
    JSON
};

static const struct option options[] = {
    {"team", required_argument, NULL, TEAM},
    {"user", required_argument, NULL, USER},
    {"id", required_argument, NULL, ID},
    {"return-path", required_argument, NULL, RETURN_PATH},
    {"locale", required_argument, NULL, LOCALE},
    {"flow", required_argument, NULL, FLOW},
    {"subscription", required_argument, NULL, SUBSCRIPTION},
    {"configuration", required_argument, NULL, CONFIGURATION},
    {"fresh", no_argument, NULL, FRESH},
    {"deadline", required_argument, NULL, DEADLINE},
    {"generation", required_argument, NULL, GENERATION},
    {"timeout", required_argument, NULL, TIMEOUT},
    {"no-wait", no_argument, NULL, NO_WAIT},
    {"reply-to", required_argument, NULL, REPLY_TO},
    {"json", no_argument, NULL, JSON},
    {"help", no_argument, NULL, 'h'},
    {0},
};

/* One option that becomes a field of the request. Result: 0, or an exit status. */
static int take_field(struct wish *wish, const char *title, int option) {
    switch (option) {
    case TEAM:
        return set_id(wish, title, "--team", "team_id", optarg);
    case USER:
        return set_id(wish, title, "--user", "user_id", optarg);
    case ID:
        return set_text(wish, "request_id", optarg);
    case RETURN_PATH:
        return set_text(wish, "return_path", optarg);
    case LOCALE:
        return set_text(wish, "locale", optarg);
    case FLOW:
        return set_flow(wish, title, optarg);
    case CONFIGURATION:
        return set_text(wish, "configuration", optarg);
    case DEADLINE:
        return set_text(wish, "deadline", optarg);
    case FRESH:
        return json_object_set_new(wish->body, "fresh", json_true()) < 0 ? CTL_FAILED : 0;
    default:
        return ctl_misused(title, "that is no option");
    }
}

static int take_option(struct wish *wish, const char *title, int option) {
    switch (option) {
    case SUBSCRIPTION:
        wish->subscription = optarg;
        return 0;
    case GENERATION:
        return ctl_read_number(title, "--generation", optarg, 1, GENERATION_MAX, &wish->generation);
    case TIMEOUT:
        return ctl_read_duration(title, "--timeout", optarg, &wish->wait_seconds);
    case NO_WAIT:
        wish->no_wait = true;
        return 0;
    case REPLY_TO:
        wish->reply_to = optarg;
        return 0;
    case JSON:
        wish->json = true;
        return 0;
    default:
        return take_field(wish, title, option);
    }
}

/* What belongs together, and a request id where none was given. */
static int complete(struct wish *wish, const char *title) {
    json_t *flow = json_object_get(wish->body, "flow");
    char name[9];
    char more[9];
    char id[32];
    if (wish->subscription && !flow)
        return ctl_misused(title, "--subscription is a part of --flow");
    if (wish->subscription && json_object_set_new(flow, "subscription", json_string(wish->subscription)) < 0)
        return ctl_misused(title, "--subscription: has to be text in UTF-8");
    if (wish->reply_to && !*wish->reply_to)
        return ctl_misused(title, "--reply-to is empty");
    if (wish->reply_to && !wish->no_wait)
        return ctl_misused(title, "--reply-to goes with --no-wait: else the reply comes here");
    if (wish->wait_seconds > 86400)
        return ctl_misused(title, "--timeout: at most a day");
    if (json_object_get(wish->body, "request_id"))
        return 0;
    dialogue_random_name(name);
    dialogue_random_name(more);
    (void)snprintf(id, sizeof id, "portalctl-%s%s", name, more);
    return set_text(wish, "request_id", id);
}

int ctl_request(int argc, char **argv) {
    struct wish wish = {.body = json_object(), .wait_seconds = WAIT_SECONDS};
    int status = wish.body ? 0 : CTL_FAILED;
    for (int option; status == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0;) {
        if (option == 'h') {
            json_decref(wish.body);
            help(stdout);
            return CTL_DONE;
        }
        status = option == '?' ? ctl_unknown(argv[0]) : take_option(&wish, argv[0], option);
    }
    status = status ? status : ctl_no_more(argc, argv);
    status = status ? status : complete(&wish, argv[0]);
    status = status ? status : run(&wish, argv[0]);
    json_decref(wish.body);
    return status;
}
