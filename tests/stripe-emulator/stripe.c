/* What happens to one call of Stripe's API, from its arrival to its answer.
 *
 * The order is Stripe's (docs.stripe.com/api/idempotent_requests): what is refused before an endpoint begins is not
 * kept under the idempotency key; all that an endpoint answers is, errors included. */
#include "stripe.h"

#include "emulator.h"
#include "form.h"
#include "identifiers.h"
#include "request.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char stripe_version[] = "2025-04-30.basil";

static unsigned stripe_endpoint_number(const struct request *request) {
    return request->endpoint ? request->endpoint->number : ENDPOINT_OTHER;
}

/* Keys belong to an account's mode: test and live keys do not meet. */
static char *stripe_scoped_key(const struct request *request) {
    return memory_format("%s/%s", request->answer.livemode ? "live" : "test", request->idempotency_key);
}

/* --- checks --- */

/* Such as 2025-04-30.basil, or 2023-10-16. */
static bool stripe_is_version(const char *version) {
    static const char shape[] = "0000-00-00";

    for (size_t i = 0; shape[i]; i++) {
        if (shape[i] == '0' ? !isdigit((unsigned char)version[i]) : version[i] != shape[i]) {
            return false;
        }
    }
    version += sizeof shape - 1;
    return !*version || (*version == '.' && version[1] && strlen(version) < 20 &&
                         strspn(version + 1, "abcdefghijklmnopqrstuvwxyz") == strlen(version + 1));
}

static int stripe_check_headers(const struct request *request, struct answer *answer) {
    static const char form[] = "application/x-www-form-urlencoded";
    const char *type = request->content_type;

    if (request->version && !stripe_is_version(request->version)) {
        return answer_invalid(answer, NULL, NULL, "Invalid Stripe API version: %.40s", request->version);
    }
    if (request->too_long) {
        answer_error(answer, 413, "invalid_request_error", NULL, NULL, "Request body too large.");
        return -E2BIG;
    }
    if (request->body_length > 0 && type && strncasecmp(type, form, sizeof form - 1) != 0) {
        return answer_invalid(answer, NULL, NULL,
                              "Invalid request (check that your POST content type is %s). If you have any questions, "
                              "we can help at https://support.stripe.com/.",
                              form);
    }
    if (request->idempotency_key && strlen(request->idempotency_key) > REQUEST_KEY_MAX) {
        return answer_invalid(answer, NULL, NULL, "Idempotency keys can have at most %d characters.", REQUEST_KEY_MAX);
    }
    return 0;
}

/* `parsed` is what form_parse said. */
static int stripe_check_parameters(struct request *request, const struct form *form, int parsed) {
    _cleanup_json_ json_t *tree = NULL;
    const char *bad = NULL;
    struct answer *answer = &request->answer;

    if (parsed == -E2BIG) {
        return answer_invalid(answer, NULL, NULL, "Too many parameters.");
    }
    if (parsed < 0) {
        return answer_invalid(answer, NULL, NULL, "Invalid request: parameters must be valid UTF-8 without NUL bytes.");
    }
    if (form_tree(form, &tree, &bad) < 0) {
        return answer_invalid(answer, NULL, bad, "Invalid hash: %s", bad);
    }
    return schema_check(request->endpoint->parameters, tree, &request->parameters, answer);
}

static int stripe_check_key(struct emulator *emulator, struct request *request) {
    bool reads = strcmp(request->method, "POST") != 0;

    /* docs.stripe.com/api/idempotent_requests: keys with GET have no effect. */
    if (!request->idempotency_key || !*request->idempotency_key || reads) {
        return 0;
    }
    _cleanup_free_ char *key = stripe_scoped_key(request);
    _cleanup_free_ char *parameters = json_dumps(request->parameters, JSON_COMPACT | JSON_SORT_KEYS);

    request->fingerprint = memory_format("%s %s\n%s", request->method, request->path, parameters);
    int r = idempotency_claim(&emulator->idempotency, key, request->fingerprint, request->time, &request->answer);

    request->saves = r == 0;
    return r;
}

/* 0: its endpoint is to run. Else it is answered. */
static int stripe_check(struct emulator *emulator, struct request *request, const char *api_key,
                        const struct form *form, int parsed) {
    struct answer *answer = &request->answer;
    int r = keys_check(&emulator->keys, api_key, request->endpoint, answer);

    if (r == 0) {
        r = limits_check(&emulator->limits, stripe_endpoint_number(request), request->time, answer);
    }
    if (r == 0) {
        r = stripe_check_headers(request, answer);
    }
    if (r == 0 && !request->endpoint) {
        answer_error(answer, 404, "invalid_request_error", NULL, NULL,
                     "Unrecognized request URL (%s: %s). Please see https://stripe.com/docs or we can help at "
                     "https://support.stripe.com/.",
                     request->method, request->path);
        r = -ENOENT;
    }
    if (r == 0) {
        r = stripe_check_parameters(request, form, parsed);
    }
    return r == 0 ? stripe_check_key(emulator, request) : r;
}

/* --- the end --- */

static void stripe_log_answer(struct emulator *emulator, const struct request *request, bool by_fault) {
    struct call *call = calls_get(&emulator->calls, request->call);
    const struct answer *answer = &request->answer;
    bool silent = answer->transport == ANSWER_RESET || answer->transport == ANSWER_HANG;

    counters_answered(&emulator->counters, stripe_endpoint_number(request), answer, by_fault);
    /* A reset of the log may have come between; then the number is another's, or nobody's. */
    if (call && strcmp(call->request_id, answer->request_id) == 0) {
        call->status = silent ? 0 : answer->status;
        call->answered = true;
        call->replayed = answer->replayed;
        (void)snprintf(call->effect, sizeof call->effect, "%s", request->effect);
    }
}

static void stripe_save(struct emulator *emulator, struct request *request) {
    _cleanup_free_ char *key = stripe_scoped_key(request);

    idempotency_save(&emulator->idempotency, key, &request->answer);
    emulator->counters.keys++;
    emulator->counters.keys_with_effect += request->effect[0] != '\0';
}

/* Runs the endpoint, if it is to run; saves what its idempotency key answers from now on; and lets the fault do its
 * part. Whether the fault made the answer. */
static bool stripe_conclude(struct emulator *emulator, struct request *request) {
    const struct fault_effect *fault = &request->fault;
    struct answer *answer = &request->answer;
    bool checked = fault->action == FAULT_NONE || fault->works || fault->saves;
    bool status = fault->action == FAULT_STATUS && (!checked || request->executes);

    if (request->executes && (fault->action == FAULT_NONE || fault->works)) {
        (void)request->endpoint->execute(emulator, request);
    }
    if (request->saves && !fault->saves) {
        stripe_save(emulator, request);
    }
    if (status || fault->action == FAULT_JSON || fault->action == FAULT_NOT_JSON) {
        fault_answer(fault, answer);
    }
    if (request->saves && fault->saves) {
        stripe_save(emulator, request);
    }
    answer->transport = fault->action == FAULT_RESET  ? ANSWER_RESET
                        : fault->action == FAULT_HANG ? ANSWER_HANG
                        : fault->action == FAULT_HALF ? ANSWER_HALF
                                                      : ANSWER_WHOLE;
    return status || (fault->action != FAULT_NONE && fault->action != FAULT_STATUS);
}

static void stripe_finish_locked(struct emulator *emulator, struct request *request) {
    bool by_fault = stripe_conclude(emulator, request);

    request->phase = REQUEST_ANSWERED;
    stripe_log_answer(emulator, request, by_fault);
}

void stripe_finish(void *context, struct request *request) {
    struct emulator *emulator = context;

    (void)pthread_mutex_lock(&emulator->lock);
    stripe_finish_locked(emulator, request);
    (void)pthread_mutex_unlock(&emulator->lock);
}

/* --- the beginning --- */

static void stripe_log_arrival(struct emulator *emulator, struct request *request, const char *api_key,
                               const char *parameters) {
    struct call *call =
        calls_add(&emulator->calls, request->method, request->path, parameters, request->idempotency_key);
    size_t length = api_key ? strlen(api_key) : 0;

    call->time = request->time;
    memcpy(call->request_id, request->answer.request_id, sizeof call->request_id);
    memcpy(call->fault, request->fault.summary, sizeof call->fault);
    /* Enough to tell keys apart, and not the whole of a short one. */
    if (length >= 8) {
        (void)snprintf(call->suffix, sizeof call->suffix, "%s", api_key + length - 4);
    }
    request->call = call->n;
    counters_arrived(&emulator->counters, stripe_endpoint_number(request), request->time);
}

static char *stripe_join(const struct request *request) {
    const char *query = request->query ? request->query : "";
    const char *body = strcmp(request->method, "POST") == 0 && request->body ? request->body : "";

    return memory_format("%s%s%s", query, *query && *body ? "&" : "", body);
}

void stripe_arrive(struct emulator *emulator, struct request *request) {
    _cleanup_free_ char *parameters = stripe_join(request);
    _cleanup_free_ char *api_key = keys_from_header(request->authorization);
    struct form form;
    int parsed = form_parse(&form, parameters);

    /* A NUL that is not encoded would hide the rest of the body. */
    if (request->body && strlen(request->body) != request->body_length) {
        parsed = -EILSEQ;
    }
    request->endpoint = endpoint_find(request->method, request->path, &request->id);
    request->answer.livemode = api_key && strlen(api_key) > 3 && strncmp(api_key + 3, "live_", 5) == 0;
    identifier_make(request->answer.request_id, sizeof request->answer.request_id, "req_", 14);

    (void)pthread_mutex_lock(&emulator->lock);
    request->time = request_now();
    request->fault = faults_choose(&emulator->faults, request->method, request->path, request->idempotency_key, &form);
    stripe_log_arrival(emulator, request, api_key, parameters);
    if (request->fault.action == FAULT_NONE || request->fault.works || request->fault.saves) {
        request->executes = stripe_check(emulator, request, api_key, &form, parsed) == 0;
    }
    if (request->fault.delayed) {
        request->phase = REQUEST_DELAYED;
    } else {
        stripe_finish_locked(emulator, request);
    }
    (void)pthread_mutex_unlock(&emulator->lock);
    form_done(&form);
}
