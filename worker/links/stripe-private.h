/* stripe-private.h — what the files of the Stripe link share: the answer as it comes in, libcurl on the loop, and the
 * options that every request has. */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "links/stripe.h"

/* ---- stripe-answer.c: one HTTP answer ---- */

enum { STRIPE_RETRY_AFTER_MAX_MS = 3600 * 1000 };

/* Filled header by header and piece by piece; the body's buffer is kept from one answer to the next. */
struct stripe_answer {
    char *body; /* NUL-terminated once there was a byte of it */
    size_t length;
    size_t allocated;
    int failure; /* why the body was not taken: -EMSGSIZE, -ENOMEM; else 0 */

    char request_id[128];
    bool replayed;
    int should_retry;
    int64_t retry_after_ms;
};

/* Forgets the last answer. Its body goes at once: it may hold a portal URL, and as many bodies as there are calls would
 * be a sixth of all memory. */
void stripe_answer_reset(struct stripe_answer *answer);
void stripe_answer_clear(struct stripe_answer *answer);

/* One line as libcurl hands it over, with or without its line end: a status line begins a new answer (1xx, RFC 9110
 * §15.2), a header that means something here is kept. `now` is in seconds since 1970, for Retry-After dates. */
void stripe_answer_header(struct stripe_answer *answer, const char *line, size_t length, int64_t now);

/* Appends to the body, at most STRIPE_ANSWER_MAX bytes of it. Result: whether there was room; `failure` says why not.
 */
bool stripe_answer_body(struct stripe_answer *answer, const char *data, size_t length);

/* Retry-After: delay-seconds or an HTTP-date (RFC 9110 §10.2.3 and §5.6.7). Result: milliseconds from now, at most an
 * hour; -1 where it is neither. */
int64_t stripe_retry_after(const char *value, int64_t now);

/* Why there was no answer: a negative errno for libcurl's `code`, and a sentence for a person in `explanation` (of
 * `size` bytes). `detail` is libcurl's error buffer; `system_error` the errno of the failed connect(), or 0. */
int stripe_failure(CURLcode code, const char *detail, long system_error, char *explanation, size_t size);

/* ---- stripe-curl.c: libcurl on sd-event ----------------------------------------------------------------------------
 */

/* libcurl's sockets and timer as event sources; embedded in its owner. */
struct stripe_curl {
    CURLM *multi;
    int sockets; /* an epoll of all of libcurl's sockets */
    sd_event_source *io;
    sd_event_source *timer;
    sd_event_source *now; /* stands for a timer of 0 ms, without a system call */
    void (*turned)(void *userdata);
    void *userdata;
};

/* `turned` is called on the loop after each time libcurl has worked, never from inside it: completions are read there.
 * Result: 0 or a negative errno; what there is so far is freed with stripe_curl_clear(). */
int stripe_curl_init(struct stripe_curl *curl, sd_event *event, void (*turned)(void *userdata), void *userdata);
void stripe_curl_clear(struct stripe_curl *curl);

/* ---- stripe-request.c: what every request says ---------------------------------------------------------------------
 */

/* The headers of all requests made with one key; shared by the calls under way, wiped with the last of them. */
struct stripe_headers {
    unsigned references;
    char *authorization;
    char *version;
    struct curl_slist lines[5]; /* what a POST has beyond a GET comes first */
};

struct stripe_headers *stripe_headers_new(const char *secret_key, const char *api_version);
struct stripe_headers *stripe_headers_ref(struct stripe_headers *headers);
struct stripe_headers *stripe_headers_unref(struct stripe_headers *headers);

/* The list for a GET; the list for a POST, to be put behind its Idempotency-Key. */
struct curl_slist *stripe_headers_get(struct stripe_headers *headers);
struct curl_slist *stripe_headers_post(struct stripe_headers *headers);

/* Sets what is the same for all requests: versions, protocols, certificates, time-out to connect, buffers. Result: 0 or
 * a negative errno. */
int stripe_request_prepare(CURL *easy, const struct stripe_settings *settings);
