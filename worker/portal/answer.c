/* answer.c — what becomes of a request, as the contract words it. */
#include "portal/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json-text.h"
#include "portal/text.h"

static const struct code_entry {
    const char *name;
    int status;          /* what an HTTP route would answer */
    const char *path;    /* of a redirect */
    const char *message; /* of a failure; the reference's own words where it has any */
    bool retryable;      /* the same request may succeed later, by itself or replayed */
    bool dead_lettered;
    bool stored;
    uint32_t stands_seconds;
} codes[] = {
    [CODE_NONE] = {NULL, 200, NULL, NULL, false, false, true, 0},
    [CODE_UNAUTHENTICATED] = {"unauthenticated", 303, "/sign-in", NULL, false, false, true, ANSWER_STANDS_SECONDS},
    [CODE_NO_SUBSCRIPTION] = {"no_subscription", 303, "/pricing", NULL, false, false, true, ANSWER_STANDS_SECONDS},
    [CODE_SUBSCRIPTION_INACTIVE] = {"subscription_inactive", 303, "/pricing", NULL, false, false, true,
                                    ANSWER_STANDS_SECONDS},
    [CODE_INVALID_REQUEST] = {"invalid_request", 400, NULL, "The request is not valid", false, true, false, 0},
    [CODE_FORBIDDEN_SENDER] = {"forbidden_sender", 403, NULL, "This sender may not ask for a team", false, true, false,
                               0},
    [CODE_REQUEST_CONFLICT] = {"request_conflict", 409, NULL,
                               "This request_id was used before with another ask; choose a new one", false, false,
                               false, 0},
    [CODE_DEADLINE_EXCEEDED] = {"deadline_exceeded", 504, NULL, "The deadline passed before a session could be made",
                                true, false, true, 0},
    [CODE_TEAM_NOT_FOUND] = {"team_not_found", 404, NULL, "Team not found", false, false, true, ANSWER_STANDS_SECONDS},
    [CODE_SUBSCRIPTION_NOT_FOUND] = {"subscription_not_found", 404, NULL,
                                     "flow.subscription is not the subscription of this team", false, false, true,
                                     ANSWER_STANDS_SECONDS},
    [CODE_PRODUCT_INACTIVE] = {"product_inactive", 500, NULL, "Team's product is not active in Stripe", false, false,
                               true, ANSWER_STANDS_SECONDS},
    [CODE_NO_ACTIVE_PRICES] = {"no_active_prices", 500, NULL, "No active prices found for the team's product", false,
                               false, true, ANSWER_STANDS_SECONDS},
    [CODE_STRIPE_ERROR] = {"stripe_error", 500, NULL, "Stripe refused this request", false, false, true,
                           ANSWER_STANDS_SECONDS},
    [CODE_STRIPE_UNAVAILABLE] = {"stripe_unavailable", 503, NULL,
                                 "Stripe did not serve this request, though it was up for others", true, true, true,
                                 ANSWER_STANDS_SECONDS},
    [CODE_INTERNAL_ERROR] = {"internal_error", 500, NULL, "The answer to this request could not be saved", true, true,
                             false, 0},
    [CODE_POISONOUS] = {"poisonous", 500, NULL, "This request crashed workers three times", false, true, false, 0},
};

static const char *const outcomes[] = {
    [OUTCOME_CREATED] = "created",
    [OUTCOME_REUSED] = "reused",
    [OUTCOME_REDIRECT] = "redirect",
    [OUTCOME_FAILED] = "failed",
};

const char *outcome_name(enum outcome outcome) {
    return outcomes[outcome];
}

const char *code_name(enum code code) {
    return codes[code].name;
}

bool code_is_dead_lettered(enum code code) {
    return codes[code].dead_lettered;
}

bool code_is_stored(enum code code) {
    return codes[code].stored;
}

uint32_t answer_stands_seconds(const struct answer *answer, uint32_t session_seconds) {
    return answer->session_created > 0 ? session_seconds - SESSION_MARGIN_SECONDS : codes[answer->code].stands_seconds;
}

/* ---- sessions ---- */

void session_clear(struct session *session) {
    free(session->id);
    free(session->url);
    free(session->customer);
    free(session->return_url);
    free(session->configuration);
    *session = (struct session){0};
}

int session_copy(const struct session *from, struct session *to) {
    *to = (struct session){.id = strdup(from->id),
                           .url = strdup(from->url),
                           .customer = strdup(from->customer),
                           .return_url = strdup(from->return_url),
                           .configuration = strdup(from->configuration),
                           .created = from->created};
    if (to->id && to->url && to->customer && to->return_url && to->configuration)
        return 0;
    session_clear(to);
    return -ENOMEM;
}

/* ---- making answers ---- */

/* Takes the parts over; a missing one becomes null. */
static int make(struct answer *answer, enum outcome outcome, enum code code, json_t *session, json_t *redirect,
                json_t *error) {
    *answer = (struct answer){.outcome = outcome, .code = code, .status = codes[code].status};
    answer->json = json_pack("{s:s s:i s:o? s:o? s:o?}", "outcome", outcomes[outcome], "status", answer->status,
                             "session", session, "redirect", redirect, "error", error);
    return answer->json ? 0 : -ENOMEM;
}

int answer_session(struct answer *answer, enum outcome outcome, const struct session *session,
                   uint32_t session_seconds) {
    json_t *json =
        json_pack("{s:s s:n s:s s:s s:s s:I s:I}", "id", session->id, "url", "customer", session->customer,
                  "return_url", session->return_url, "configuration", session->configuration, "created",
                  (json_int_t)session->created, "expires_at", (json_int_t)(session->created + session_seconds));
    if (!json) {
        *answer = (struct answer){0};
        return -ENOMEM;
    }
    int r = make(answer, outcome, CODE_NONE, json, NULL, NULL);
    answer->session_created = session->created;
    answer->url = strdup(session->url);
    if (r == 0 && answer->url)
        return 0;
    answer_clear(answer);
    return -ENOMEM;
}

int answer_redirect(struct answer *answer, enum code code, const char *base_url) {
    json_t *redirect = json_pack("{s:s s:s+ s:s}", "path", codes[code].path, "url", base_url, codes[code].path, "code",
                                 codes[code].name);
    *answer = (struct answer){0};
    return redirect ? make(answer, OUTCOME_REDIRECT, code, NULL, redirect, NULL) : -ENOMEM;
}

int answer_failed(struct answer *answer, enum code code, const char *message, const char *stripe_request_id) {
    if (stripe_request_id && *stripe_request_id == '\0')
        stripe_request_id = NULL;
    json_t *error =
        json_pack("{s:s s:s s:b s:s?}", "code", codes[code].name, "message", message ? message : codes[code].message,
                  "retryable", codes[code].retryable, "stripe_request_id", stripe_request_id);
    *answer = (struct answer){0};
    return error ? make(answer, OUTCOME_FAILED, code, NULL, NULL, error) : -ENOMEM;
}

void answer_clear(struct answer *answer) {
    json_decref(answer->json);
    if (answer->url)
        explicit_bzero(answer->url, strlen(answer->url));
    free(answer->url);
    *answer = (struct answer){0};
}

void answer_move(struct answer *to, struct answer *from) {
    answer_clear(to);
    *to = *from;
    *from = (struct answer){0};
}

/* ---- storing and replying ---- */

static int find_code(const char *name, enum code *ret) {
    for (size_t code = 1; code < sizeof codes / sizeof *codes; code++)
        if (strcmp(codes[code].name, name) == 0) {
            *ret = (enum code)code;
            return 0;
        }
    return -EINVAL;
}

static int find_outcome(const char *name, enum outcome *ret) {
    for (size_t outcome = 0; outcome < sizeof outcomes / sizeof *outcomes; outcome++)
        if (strcmp(outcomes[outcome], name) == 0) {
            *ret = (enum outcome)outcome;
            return 0;
        }
    return -EINVAL;
}

int answer_read(struct answer *answer, const char *json, const char *url) {
    *answer = (struct answer){0};
    int r = json_text_read(json, strlen(json), 0, &answer->json, NULL);
    if (r < 0)
        return r;
    const char *outcome = json_string_value(json_object_get(answer->json, "outcome"));
    const json_t *session = json_object_get(answer->json, "session");
    const json_t *other = json_object_get(answer->json, "redirect");
    if (!json_is_object(other))
        other = json_object_get(answer->json, "error");
    const char *code = json_string_value(json_object_get(other, "code"));

    r = outcome ? find_outcome(outcome, &answer->outcome) : -EINVAL;
    if (r == 0 && code)
        r = find_code(code, &answer->code);
    answer->status = (int)json_integer_value(json_object_get(answer->json, "status"));
    answer->session_created = json_integer_value(json_object_get(session, "created"));
    if (r == 0 && url && json_is_object(session) && !(answer->url = strdup(url)))
        r = -ENOMEM;
    if (r < 0)
        answer_clear(answer);
    return r;
}

int answer_get_session(const struct answer *answer, struct session *session) {
    const json_t *json = json_object_get(answer->json, "session");
    const char *id, *customer, *return_url, *configuration;
    json_int_t created;
    if (!answer->url ||
        json_unpack((json_t *)json, "{s:s s:s s:s s:s s:I}", "id", &id, "customer", &customer, "return_url",
                    &return_url, "configuration", &configuration, "created", &created) < 0)
        return -ENOENT;
    struct session borrowed = {.id = (char *)id,
                               .url = answer->url,
                               .customer = (char *)customer,
                               .return_url = (char *)return_url,
                               .configuration = (char *)configuration,
                               .created = created};
    return session_copy(&borrowed, session);
}

char *answer_write(const struct answer *answer) {
    return json_text_write(answer->json, JSON_COMPACT);
}

/* Puts the URL into its place in the reply's own copy of the session: a deep one, as json_copy() leaves members out
 * where memory runs out, and does not say so. */
static int put_url(json_t *reply, const char *url) {
    json_t *session = json_deep_copy(json_object_get(reply, "session"));
    if (!session || json_object_set_new(session, "url", json_string(url)) < 0 ||
        json_object_set(reply, "session", session) < 0) {
        json_decref(session);
        return -ENOMEM;
    }
    json_decref(session);
    return 0;
}

char *answer_reply(const struct answer *answer, const char *request_id, uint32_t generation) {
    json_t *reply = json_pack(generation > 0 ? "{s:s? s:I}" : "{s:s? s:n}", "request_id",
                              request_id && *request_id ? request_id : NULL, "generation", (json_int_t)generation);
    char *text = NULL;
    if (reply && json_object_update(reply, answer->json) == 0 && (!answer->url || put_url(reply, answer->url) == 0))
        text = json_text_write(reply, JSON_COMPACT);
    json_decref(reply);
    return text;
}
