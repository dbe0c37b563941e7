/* stripe-answer.c — takes in one HTTP answer: the headers that mean something to the core, a body of bounded length,
 * and, where there is no answer, why. */
#include "stripe-private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    BODY_FIRST = 4 * 1024, /* a session is 1 KiB, a page of prices up to 200 */
    VALUE_MAX = 128,       /* no header that is read here may be longer */
};

static void meta_reset(struct stripe_answer *answer) {
    answer->request_id[0] = '\0';
    answer->replayed = false;
    answer->should_retry = -1;
    answer->retry_after_ms = -1;
}

void stripe_answer_reset(struct stripe_answer *answer) {
    assert(answer);

    stripe_answer_clear(answer);
    answer->failure = 0;
    meta_reset(answer);
}

void stripe_answer_clear(struct stripe_answer *answer) {
    assert(answer);

    /* It may hold a portal URL, a credential. */
    if (answer->body)
        explicit_bzero(answer->body, answer->allocated);
    free(answer->body);
    answer->body = NULL;
    answer->length = answer->allocated = 0;
}

static bool space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Copies the value of `line` if its name is `name`; a longer one than fits counts as not there. */
static bool header_value(const char *line, size_t length, const char *name, char value[static VALUE_MAX]) {
    size_t name_length = strlen(name);
    if (length <= name_length || line[name_length] != ':' || strncasecmp(line, name, name_length) != 0)
        return false;

    line += name_length + 1;
    length -= name_length + 1;
    while (length > 0 && space(line[0])) {
        line++;
        length--;
    }
    while (length > 0 && space(line[length - 1]))
        length--;
    if (length >= VALUE_MAX || memchr(line, '\0', length))
        return false;
    memcpy(value, line, length);
    value[length] = '\0';
    return true;
}

static bool printable(const char *text) {
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            return false;
    return true;
}

void stripe_answer_header(struct stripe_answer *answer, const char *line, size_t length, int64_t now) {
    assert(answer);
    assert(line);

    static_assert(sizeof answer->request_id >= VALUE_MAX);
    char value[VALUE_MAX];

    if (length >= 5 && strncasecmp(line, "HTTP/", 5) == 0)
        meta_reset(answer);
    else if (header_value(line, length, "Request-Id", value)) {
        if (printable(value))
            memcpy(answer->request_id, value, sizeof value);
    } else if (header_value(line, length, "Idempotent-Replayed", value))
        answer->replayed = strcasecmp(value, "true") == 0;
    else if (header_value(line, length, "Stripe-Should-Retry", value)) {
        if (strcasecmp(value, "true") == 0)
            answer->should_retry = 1;
        else if (strcasecmp(value, "false") == 0)
            answer->should_retry = 0;
    } else if (header_value(line, length, "Retry-After", value))
        answer->retry_after_ms = stripe_retry_after(value, now);
}

bool stripe_answer_body(struct stripe_answer *answer, const char *data, size_t length) {
    assert(answer);

    if (length > STRIPE_ANSWER_MAX - answer->length) {
        answer->failure = -EMSGSIZE;
        return false;
    }
    size_t needed = answer->length + length + 1;
    if (needed > answer->allocated) {
        size_t size = answer->allocated ? answer->allocated : BODY_FIRST;
        while (size < needed)
            size *= 2;
        char *grown = realloc(answer->body, size);
        if (!grown) {
            answer->failure = -ENOMEM;
            return false;
        }
        answer->body = grown;
        answer->allocated = size;
    }
    if (length > 0)
        memcpy(answer->body + answer->length, data, length);
    answer->length += length;
    answer->body[answer->length] = '\0';
    return true;
}

int64_t stripe_retry_after(const char *value, int64_t now) {
    assert(value);

    const int64_t most = STRIPE_RETRY_AFTER_MAX_MS / 1000;
    int64_t seconds = 0;
    if (value[0] >= '0' && value[0] <= '9') {
        for (; *value >= '0' && *value <= '9'; value++)
            if (seconds <= most)
                seconds = seconds * 10 + (*value - '0');
        if (*value)
            return -1;
    } else {
        /* All three forms begin with the name of a day; libcurl reads them and others, so that is checked here. */
        static const char days[] = "montuewedthufrisatsun";
        size_t day = 0;
        while (day < sizeof days - 1 && strncasecmp(value, days + day, 3) != 0)
            day += 3;
        time_t date = day < sizeof days - 1 ? curl_getdate(value, NULL) : -1;
        if (date < 0)
            return -1;
        seconds = (int64_t)date > now ? (int64_t)date - now : 0;
    }
    return (seconds < most ? seconds : most) * 1000;
}

/* What libcurl's codes come down to for the core, which retries all but -EMSGSIZE alike; and what to tell a person
 * where libcurl's own words lead nowhere. */
static const struct failure {
    CURLcode code;
    int error;
    const char *advice;
} failures[] = {
    {CURLE_OPERATION_TIMEDOUT, -ETIMEDOUT, NULL},
    {CURLE_COULDNT_RESOLVE_HOST, -EHOSTUNREACH, "STRIPE_API_BASE or the name service"},
    {CURLE_COULDNT_RESOLVE_PROXY, -EHOSTUNREACH, "https_proxy or the name service"},
    {CURLE_COULDNT_CONNECT, -ECONNREFUSED, NULL},
    {CURLE_PEER_FAILED_VERIFICATION, -EKEYREJECTED, "the server's certificate is not trusted: STRIPE_CA_FILE"},
    {CURLE_SSL_CACERT_BADFILE, -EKEYREJECTED, "STRIPE_CA_FILE can't be read"},
    {CURLE_SSL_ISSUER_ERROR, -EKEYREJECTED, "STRIPE_CA_FILE"},
    {CURLE_SSL_CONNECT_ERROR, -EPROTO, "STRIPE_API_BASE: is it https there?"},
    {CURLE_SEND_ERROR, -ECONNRESET, NULL},
    {CURLE_RECV_ERROR, -ECONNRESET, NULL},
    {CURLE_GOT_NOTHING, -ECONNRESET, NULL},
    {CURLE_PARTIAL_FILE, -ECONNRESET, NULL},
    {CURLE_HTTP2_STREAM, -ECONNRESET, NULL},
    {CURLE_HTTP2, -EPROTO, NULL},
    {CURLE_WEIRD_SERVER_REPLY, -EPROTO, "STRIPE_API_BASE: is it http there?"},
    {CURLE_UNSUPPORTED_PROTOCOL, -EPROTO, NULL},
    {CURLE_URL_MALFORMAT, -EINVAL, "STRIPE_API_BASE"},
    {CURLE_OUT_OF_MEMORY, -ENOMEM, NULL},
};

int stripe_failure(CURLcode code, const char *detail, long system_error, char *explanation, size_t size) {
    assert(code != CURLE_OK);
    assert(explanation);

    struct failure failure = {code, -EIO, NULL};
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        if (failures[i].code == code)
            failure = failures[i];
    if (code == CURLE_COULDNT_CONNECT && system_error > 0)
        failure.error = (int)-system_error;

    const char *words = detail && detail[0] ? detail : curl_easy_strerror(code);
    (void)snprintf(explanation, size, "%s%s%s%s", words, failure.advice ? " (" : "",
                   failure.advice ? failure.advice : "", failure.advice ? ")" : "");
    return failure.error;
}
