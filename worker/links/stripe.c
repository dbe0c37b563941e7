/* stripe.c — the exchanges with Stripe that are under way: begun, timed, given up, reported.
 *
 * Each has an easy handle of its own while it lasts; handles are kept for the next, with all options but the URL, the
 * form and the key set for good. Nothing of the core is called but from the loop: libcurl's callbacks only collect. */
#include "stripe-private.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    KEY_LINE_MAX = 320, /* "Idempotency-Key: " and 255 characters, Stripe's limit */
    URL_MAX = 8 * 1024,
    WATCH_MIN_US = 10 * 1000,
    WATCH_MAX_US = 500 * 1000,
};

/* One exchange's HTTP side: in the list of the active, or without an exchange in the list of the spare. */
struct call {
    struct stripe *stripe;
    struct stripe_exchange *exchange;
    CURL *easy;
    struct stripe_headers *headers;
    struct curl_slist key;
    char key_line[KEY_LINE_MAX];
    struct stripe_answer answer;
    uint64_t started_us;
    uint64_t heard_us; /* when the request went out or something last came in; 0: not connected yet */
    struct call *previous;
    struct call *next;
    char error[CURL_ERROR_SIZE];
};

struct stripe {
    struct stripe_settings settings; /* its texts are owned, as the next */
    struct stripe_headers *headers;
    struct stripe_curl curl;
    CURLSH *share; /* TLS sessions, so that a new connection costs less */
    struct call *active;
    struct call *spare;
    struct stripe_exchange *failed; /* at once, to be reported from the loop; linked through `link` */
    sd_event_source *report;
    sd_event_source *watch; /* looks for calls that take too long */
    uint64_t watch_us;
    uint64_t heard_us;   /* when anything last came in, for any call */
    uint64_t trouble_us; /* when the network last seemed dead: older connections are not trusted; 0: never */
    bool doubtful;       /* nothing was answered since */
};

static uint64_t monotonic_us(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- inside libcurl: collect only ---- */

static int on_request(void *userdata, char *address, char *own_address, int port, int own_port) {
    (void)address;
    (void)own_address;
    (void)port;
    (void)own_port;
    struct call *call = userdata;
    call->heard_us = monotonic_us();
    return CURL_PREREQFUNC_OK;
}

static size_t on_header(char *line, size_t size, size_t count, void *userdata) {
    struct call *call = userdata;
    call->heard_us = call->stripe->heard_us = monotonic_us();
    stripe_answer_header(&call->answer, line, size * count, (int64_t)time(NULL));
    return size * count;
}

static size_t on_body(char *data, size_t size, size_t count, void *userdata) {
    struct call *call = userdata;
    call->heard_us = call->stripe->heard_us = monotonic_us();
    return stripe_answer_body(&call->answer, data, size * count) ? size * count : 0;
}

/* ---- calls --------------------------------------------------------------------------------------------------------
 */

static void call_free(struct call *call) {
    if (!call)
        return;
    curl_easy_cleanup(call->easy);
    stripe_answer_clear(&call->answer);
    (void)stripe_headers_unref(call->headers);
    free(call);
}

static int call_prepare(struct call *call) {
    int r = stripe_request_prepare(call->easy, &call->stripe->settings);
    if (r < 0)
        return r;
    CURL *easy = call->easy;
    bool tls = strncasecmp(call->stripe->settings.api_base, "https:", 6) == 0;
    if (curl_easy_setopt(easy, CURLOPT_PRIVATE, call) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_PREREQDATA, call) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, call) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, call) != CURLE_OK ||
        /* Rather wait to learn whether a connection takes many than open one for each. */
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, tls ? 1L : 0L) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_SHARE, call->stripe->share) != CURLE_OK)
        return -EINVAL;
    return 0;
}

/* A spare call, or a new one; NULL without memory. */
static struct call *call_take(struct stripe *stripe) {
    struct call *call = stripe->spare;
    if (call) {
        stripe->spare = call->next;
        call->next = NULL;
        return call;
    }
    call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->stripe = stripe;
    call->easy = curl_easy_init();
    if (!call->easy || call_prepare(call) < 0) {
        call_free(call);
        return NULL;
    }
    return call;
}

/* Keeps it for the next exchange: there are never more than were under way at once, which the core bounds. */
static void call_give(struct call *call) {
    struct stripe *stripe = call->stripe;
    call->exchange = NULL;
    call->headers = stripe_headers_unref(call->headers);
    stripe_answer_reset(&call->answer);
    call->previous = NULL;
    call->next = stripe->spare;
    stripe->spare = call;
}

/* Puts it in front of the active; the oldest is last. */
static void call_link(struct call *call) {
    struct stripe *stripe = call->stripe;
    call->previous = NULL;
    call->next = stripe->active;
    if (call->next)
        call->next->previous = call;
    stripe->active = call;
}

static void call_unlink(struct call *call) {
    assert((call->stripe->active == call) == (call->previous == NULL));

    if (call->previous)
        call->previous->next = call->next;
    else
        call->stripe->active = call->next;
    if (call->next)
        call->next->previous = call->previous;
    call->previous = call->next = NULL;
}

/* Takes it out of libcurl and out of the active; the exchange is the caller's to report. */
static struct stripe_exchange *call_end(struct call *call) {
    struct stripe_exchange *exchange = call->exchange;
    long connections = 0;
    (void)curl_easy_getinfo(call->easy, CURLINFO_NUM_CONNECTS, &connections);
    exchange->connections = (unsigned)connections;
    (void)curl_multi_remove_handle(call->stripe->curl.multi, call->easy);
    call_unlink(call);
    exchange->link = NULL;
    return exchange;
}

/* One call that is not answered may be slow; where no other was for a long time, the connections may be dead. */
static void doubt(struct stripe *stripe) {
    uint64_t now = monotonic_us();
    if (now < stripe->heard_us + (uint64_t)stripe->settings.answer_ms * 1000 / 2)
        return;
    stripe->trouble_us = now;
    stripe->doubtful = true;
}

static void call_fail(struct call *call, int error, const char *explanation) {
    if (error == -ETIMEDOUT)
        doubt(call->stripe);
    struct stripe_exchange *exchange = call_end(call);
    exchange->error = error;
    (void)snprintf(exchange->explanation, sizeof exchange->explanation, "%s", explanation);
    exchange->done(exchange);
    call_give(call);
}

static void call_answered(struct call *call, int status) {
    static char nothing[1] = "";
    struct stripe_answer *answer = &call->answer;
    call->stripe->doubtful = false;

    struct stripe_exchange *exchange = call_end(call);
    exchange->status = status;
    exchange->body = answer->body ? answer->body : nothing;
    exchange->body_length = answer->length;
    static_assert(sizeof exchange->request_id == sizeof answer->request_id);
    memcpy(exchange->request_id, answer->request_id, sizeof exchange->request_id);
    exchange->replayed = answer->replayed;
    exchange->should_retry = answer->should_retry;
    exchange->retry_after_ms = answer->retry_after_ms;
    exchange->done(exchange);
    call_give(call);
}

static void call_done(struct call *call, CURLcode code) {
    long status = 0;
    (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    char explanation[sizeof call->exchange->explanation];

    if (call->answer.failure < 0) {
        int error = call->answer.failure;
        call_fail(call, error, error == -EMSGSIZE ? "an answer of more than 2 MiB" : "no memory for the answer");
    } else if (code == CURLE_OK && status >= 200 && status <= 599)
        call_answered(call, (int)status);
    else if (code == CURLE_OK) {
        (void)snprintf(explanation, sizeof explanation, "an answer with status %ld", status);
        call_fail(call, -EPROTO, explanation);
    } else {
        long system_error = 0;
        (void)curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &system_error);
        int error = stripe_failure(code, call->error, system_error, explanation, sizeof explanation);
        call_fail(call, error, explanation);
    }
}

/* After libcurl has worked: reports what has ended. What is called from here may begin and cancel exchanges. */
static void turned(void *userdata) {
    struct stripe *stripe = userdata;
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(stripe->curl.multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        struct call *call = NULL;
        CURLcode code = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        assert(call && call->exchange);
        call_done(call, code);
    }
}

/* ---- time-outs ----------------------------------------------------------------------------------------------------
 */

/* libcurl's own would set its timer anew for every call; these are looked for a few times in their span, in one go.
 * Connecting alone is timed by libcurl, which knows its phases. */
static struct call *find_late(const struct stripe *stripe, uint64_t now, char *explanation, size_t size) {
    const struct stripe_settings *settings = &stripe->settings;
    for (struct call *call = stripe->active; call; call = call->next) {
        if (now >= call->started_us + (uint64_t)settings->total_ms * 1000) {
            (void)snprintf(explanation, size, "the call took longer than %" PRIu32 " ms", settings->total_ms);
            return call;
        }
        if (call->heard_us > 0 && now >= call->heard_us + (uint64_t)settings->answer_ms * 1000) {
            (void)snprintf(explanation, size, "no answer for %" PRIu32 " ms", settings->answer_ms);
            return call;
        }
    }
    return NULL;
}

static int on_watch(sd_event_source *source, uint64_t time, void *userdata) {
    (void)time;
    struct stripe *stripe = userdata;
    char explanation[64];
    uint64_t now = monotonic_us();
    struct call *late;
    while ((late = find_late(stripe, now, explanation, sizeof explanation)))
        call_fail(late, -ETIMEDOUT, explanation);

    if (!stripe->active)
        return 0; /* ONESHOT: stays off until the next start */
    int r = sd_event_source_set_time(source, now + stripe->watch_us);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int watch_begin(struct stripe *stripe) {
    int enabled = SD_EVENT_OFF;
    int r = sd_event_source_get_enabled(stripe->watch, &enabled);
    if (r < 0 || enabled != SD_EVENT_OFF)
        return r < 0 ? r : 0;
    r = sd_event_source_set_time(stripe->watch, monotonic_us() + stripe->watch_us);
    return r < 0 ? r : sd_event_source_set_enabled(stripe->watch, SD_EVENT_ONESHOT);
}

/* ---- the table for the core ---------------------------------------------------------------------------------------
 */

static int on_report(sd_event_source *source, void *userdata) {
    (void)source;
    struct stripe *stripe = userdata;
    struct stripe_exchange *exchange;
    while ((exchange = stripe->failed)) {
        stripe->failed = exchange->link;
        exchange->link = NULL;
        exchange->done(exchange);
    }
    return 0;
}

static void fail_soon(struct stripe *stripe, struct stripe_exchange *exchange, int error, const char *explanation) {
    exchange->error = error;
    (void)snprintf(exchange->explanation, sizeof exchange->explanation, "%s", explanation);
    exchange->link = stripe->failed;
    stripe->failed = exchange;
    int r = sd_event_source_set_enabled(stripe->report, SD_EVENT_ONESHOT);
    assert(r >= 0); /* enabling a defer source does no I/O */
    (void)r;
}

/* A connection may have died without a word: one that is older than the last trouble is not used again, and until
 * something is answered each call opens its own. Else every connection of the pool would cost one call its time. */
static CURLcode call_trust(struct call *call, uint64_t now) {
    const struct stripe *stripe = call->stripe;
    if (stripe->trouble_us == 0)
        return CURLE_OK;
    uint64_t seconds = (now - stripe->trouble_us) / 1000000;
    CURLcode code = curl_easy_setopt(call->easy, CURLOPT_MAXLIFETIME_CONN, (long)(seconds > 0 ? seconds : 1));
    if (code == CURLE_OK)
        code = curl_easy_setopt(call->easy, CURLOPT_FRESH_CONNECT, stripe->doubtful ? 1L : 0L);
    return code;
}

static CURLcode call_form(struct call *call, const struct stripe_exchange *exchange) {
    struct stripe_headers *headers = call->headers;
    if (!exchange->post) {
        CURLcode code = curl_easy_setopt(call->easy, CURLOPT_HTTPGET, 1L);
        return code ? code : curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, stripe_headers_get(headers));
    }

    struct curl_slist *lines = stripe_headers_post(headers);
    if (exchange->idempotency_key) {
        (void)snprintf(call->key_line, sizeof call->key_line, "Idempotency-Key: %s", exchange->idempotency_key);
        call->key = (struct curl_slist){call->key_line, lines};
        lines = &call->key;
    }
    const char *form = exchange->form ? exchange->form : "";
    CURLcode code = curl_easy_setopt(call->easy, CURLOPT_POST, 1L);
    if (code == CURLE_OK)
        code = curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(form));
    if (code == CURLE_OK)
        code = curl_easy_setopt(call->easy, CURLOPT_COPYPOSTFIELDS, form);
    return code ? code : curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, lines);
}

static int call_begin(struct call *call, struct stripe_exchange *exchange) {
    struct stripe *stripe = call->stripe;
    char url[URL_MAX];
    int length = snprintf(url, sizeof url, "%s%s", stripe->settings.api_base, exchange->path);
    if (length < 0 || (size_t)length >= sizeof url)
        return -ENAMETOOLONG;
    if (exchange->idempotency_key && strlen(exchange->idempotency_key) > 255)
        return -ENAMETOOLONG;

    uint64_t now = monotonic_us();
    call->headers = stripe_headers_ref(stripe->headers);
    call->started_us = now;
    call->heard_us = 0;
    call->error[0] = '\0';
    stripe_answer_reset(&call->answer);
    if (curl_easy_setopt(call->easy, CURLOPT_URL, url) != CURLE_OK || call_form(call, exchange) != CURLE_OK ||
        call_trust(call, now) != CURLE_OK)
        return -ENOMEM;
    int r = watch_begin(stripe);
    if (r < 0)
        return r;
    call->exchange = exchange;
    if (curl_multi_add_handle(stripe->curl.multi, call->easy) != CURLM_OK)
        return -ENOMEM;
    call_link(call);
    exchange->link = call;
    return 0;
}

static void start(void *self, struct stripe_exchange *exchange) {
    struct stripe *stripe = self;
    assert(exchange->path && exchange->path[0] == '/');
    assert(exchange->done);

    exchange->error = 0;
    exchange->explanation[0] = '\0';
    exchange->status = 0;
    exchange->connections = 0;
    exchange->body = NULL;
    exchange->body_length = 0;
    exchange->request_id[0] = '\0';
    exchange->replayed = false;
    exchange->should_retry = -1;
    exchange->retry_after_ms = -1;

    struct call *call = call_take(stripe);
    if (!call) {
        fail_soon(stripe, exchange, -ENOMEM, "no memory for a call");
        return;
    }
    int r = call_begin(call, exchange);
    if (r < 0) {
        call_give(call);
        fail_soon(stripe, exchange, r,
                  r == -ENAMETOOLONG ? "path or idempotency key too long" : "no memory for a call");
    }
}

static void cancel(void *self, struct stripe_exchange *exchange) {
    struct stripe *stripe = self;
    for (struct stripe_exchange *previous = NULL, *failed = stripe->failed; failed; failed = failed->link) {
        if (failed == exchange) {
            if (previous)
                previous->link = exchange->link;
            else
                stripe->failed = exchange->link;
            exchange->link = NULL;
            return;
        }
        previous = failed;
    }
    struct call *call = exchange->link;
    if (!call)
        return;
    (void)call_end(call);
    call_give(call);
}

struct stripe_link stripe_link(struct stripe *stripe) {
    assert(stripe);

    return (struct stripe_link){.self = stripe, .start = start, .cancel = cancel};
}

/* ---- its life -----------------------------------------------------------------------------------------------------
 */

static int copy_settings(struct stripe_settings *to, const struct stripe_settings *from) {
    *to = *from;
    to->secret_key = NULL; /* kept in the headers only */
    to->api_base = strdup(from->api_base);
    to->api_version = strdup(from->api_version);
    to->user_agent = strdup(from->user_agent);
    to->ca_file = from->ca_file ? strdup(from->ca_file) : NULL;
    return to->api_base && to->api_version && to->user_agent && (to->ca_file || !from->ca_file) ? 0 : -ENOMEM;
}

static int make_multi(struct stripe *stripe, sd_event *event) {
    int r = stripe_curl_init(&stripe->curl, event, turned, stripe);
    if (r < 0)
        return r;
    long most = (long)stripe->settings.concurrency;
    if (curl_multi_setopt(stripe->curl.multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX) != CURLM_OK ||
        curl_multi_setopt(stripe->curl.multi, CURLMOPT_MAXCONNECTS, most) != CURLM_OK ||
        curl_multi_setopt(stripe->curl.multi, CURLMOPT_MAX_HOST_CONNECTIONS, most) != CURLM_OK)
        return -EIO;
    stripe->share = curl_share_init();
    if (!stripe->share)
        return -ENOMEM;
    if (curl_share_setopt(stripe->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK)
        return -EIO;
    return 0;
}

static int make_sources(struct stripe *stripe, sd_event *event) {
    int r = sd_event_add_defer(event, &stripe->report, on_report, stripe);
    if (r < 0)
        return r;
    r = sd_event_source_set_enabled(stripe->report, SD_EVENT_OFF);
    if (r < 0)
        return r;

    const struct stripe_settings *settings = &stripe->settings;
    uint32_t shortest_ms = settings->answer_ms < settings->total_ms ? settings->answer_ms : settings->total_ms;
    stripe->watch_us = (uint64_t)shortest_ms * 1000 / 16;
    if (stripe->watch_us < WATCH_MIN_US)
        stripe->watch_us = WATCH_MIN_US;
    if (stripe->watch_us > WATCH_MAX_US)
        stripe->watch_us = WATCH_MAX_US;
    r = sd_event_add_time(event, &stripe->watch, CLOCK_MONOTONIC, UINT64_MAX, WATCH_MIN_US, on_watch, stripe);
    if (r < 0)
        return r;
    return sd_event_source_set_enabled(stripe->watch, SD_EVENT_OFF);
}

int stripe_new(const struct stripe_settings *settings, sd_event *event, struct stripe **ret) {
    assert(settings && settings->secret_key && settings->api_base && settings->api_version && settings->user_agent);
    assert(settings->concurrency > 0);
    assert(event);
    assert(ret);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return -ENOMEM;
    struct stripe *stripe = calloc(1, sizeof *stripe);
    if (!stripe) {
        curl_global_cleanup();
        return -ENOMEM;
    }
    stripe->curl.sockets = -1;
    int r = copy_settings(&stripe->settings, settings);
    if (r >= 0)
        r = stripe_set_key(stripe, settings->secret_key);
    if (r >= 0)
        r = make_multi(stripe, event);
    if (r >= 0)
        r = make_sources(stripe, event);
    if (r < 0) {
        stripe_free(stripe);
        return r;
    }
    *ret = stripe;
    return 0;
}

void stripe_free(struct stripe *stripe) {
    if (!stripe)
        return;
    while (stripe->active) {
        struct call *call = stripe->active;
        (void)call_end(call);
        call_give(call);
    }
    while (stripe->spare) {
        struct call *call = stripe->spare;
        stripe->spare = call->next;
        call_free(call);
    }
    stripe_curl_clear(&stripe->curl);
    if (stripe->share)
        (void)curl_share_cleanup(stripe->share);
    (void)sd_event_source_disable_unref(stripe->report);
    (void)sd_event_source_disable_unref(stripe->watch);
    (void)stripe_headers_unref(stripe->headers);
    free((char *)stripe->settings.api_base);
    free((char *)stripe->settings.api_version);
    free((char *)stripe->settings.user_agent);
    free((char *)stripe->settings.ca_file);
    free(stripe);
    curl_global_cleanup();
}

int stripe_set_key(struct stripe *stripe, const char *secret_key) {
    assert(stripe);
    assert(secret_key);

    struct stripe_headers *headers = stripe_headers_new(secret_key, stripe->settings.api_version);
    if (!headers)
        return -ENOMEM;
    (void)stripe_headers_unref(stripe->headers);
    stripe->headers = headers;
    return 0;
}
