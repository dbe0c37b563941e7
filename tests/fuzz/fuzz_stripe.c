/* fuzz_stripe.c — an answer from Stripe, or from whatever stands between: verdict_of() and the readers after it. The
 * first byte picks the HTTP status, the second the headers; the rest is the body. */
#include <stdlib.h>
#include <string.h>

#include "portal/answer.h"
#include "portal/verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_session(const json_t *answer) {
    struct refusal wrong = {0};
    struct session session;
    struct answer made;
    if (verdict_session(answer, "cus_1", true, &session, &wrong) < 0)
        return;
    if (strncmp(session.url, "https://", 8) != 0 || strcmp(session.customer, "cus_1") != 0)
        abort();
    if (answer_session(&made, OUTCOME_CREATED, &session, 300) == 0) {
        char *stored = answer_write(&made), *reply = answer_reply(&made, "r-1", 1);
        struct answer again;
        if (!stored || !reply || !strstr(stored, "\"url\":null") || answer_read(&again, stored, session.url) < 0)
            abort();
        answer_clear(&again);
        free(stored);
        free(reply);
        answer_clear(&made);
    }
    session_clear(&session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int statuses[] = {200, 201, 301, 400, 401, 402, 403, 404, 409, 429, 500, 502, 503};
    if (size < 2)
        return 0;
    char *body = strndup((const char *)data + 2, size - 2);
    if (!body)
        return 0;
    struct stripe_exchange exchange = {.status = statuses[data[0] % (sizeof statuses / sizeof *statuses)],
                                       .body = body,
                                       .body_length = strlen(body),
                                       .replayed = data[1] & 1,
                                       .should_retry = data[1] & 2 ? (data[1] & 4) != 0 : -1,
                                       .retry_after_ms = -1};
    struct refusal refusal;
    json_t *answer;
    char text[900];
    enum verdict verdict = verdict_of(&exchange, &answer, &refusal);
    if ((verdict == VERDICT_DONE) != (answer != NULL))
        abort();
    refusal_text(&refusal, text, sizeof text);
    if (answer) {
        const json_t *list;
        bool has_more;
        read_session(answer);
        (void)verdict_list(answer, "price_1", &list, &has_more, &refusal);
    }
    json_decref(answer);
    free(body);
    return 0;
}
