/* stripe-check.c — asks Stripe one cheap question, on the caller's thread, and says what is wrong if anything is. */
#include "stripe-private.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { URL_MAX = 8 * 1024 };

static size_t on_header(char *line, size_t size, size_t count, void *userdata) {
    stripe_answer_header(userdata, line, size * count, (int64_t)time(NULL));
    return size * count;
}

static size_t on_body(char *data, size_t size, size_t count, void *userdata) {
    return stripe_answer_body(userdata, data, size * count) ? size * count : 0;
}

/* Whether the answer is a list, as Stripe's API promises; another server may say 200 to anything. */
static bool is_list(const struct stripe_answer *answer) {
    json_t *root = json_loadb(answer->body ? answer->body : "", answer->length, 0, NULL);
    const char *object = json_string_value(json_object_get(root, "object"));
    bool list = object && strcmp(object, "list") == 0;
    json_decref(root);
    return list;
}

/* Stripe's own words are not repeated: for a wrong key they hold a part of it. */
static int judge(const struct stripe_settings *settings, const struct stripe_answer *answer, long status, char *error,
                 size_t error_size) {
    const char *words = NULL;
    int r = -EPROTO;
    if (status == 200 && is_list(answer))
        return 0;
    if (status == 401) {
        words = "the key is not valid: STRIPE_SECRET_KEY";
        r = -EACCES;
    } else if (status == 403) {
        words = "the key may not read billing portal configurations: the rights of STRIPE_SECRET_KEY";
        r = -EPERM;
    } else if (status == 400)
        words = "the request was refused: STRIPE_API_VERSION";
    else if (status == 429 || status >= 500) {
        words = "Stripe has trouble or is too busy: try again later";
        r = -EAGAIN;
    } else
        words = "this is not how Stripe answers: STRIPE_API_BASE";
    (void)snprintf(error, error_size, "%s answered %ld: %s%s%s%s", settings->api_base, status, words,
                   answer->request_id[0] ? " (request " : "", answer->request_id, answer->request_id[0] ? ")" : "");
    return r;
}

static int ask(CURL *easy, const struct stripe_settings *settings, struct stripe_headers *headers,
               struct stripe_answer *answer, char *error, size_t error_size) {
    char url[URL_MAX];
    char detail[CURL_ERROR_SIZE] = "";
    int length = snprintf(url, sizeof url, "%s/v1/billing_portal/configurations?limit=1", settings->api_base);
    if (length < 0 || (size_t)length >= sizeof url)
        return -ENAMETOOLONG;
    int r = stripe_request_prepare(easy, settings);
    if (r < 0)
        return r;
    if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, stripe_headers_get(headers)) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)settings->answer_ms) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, detail) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, answer) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer) != CURLE_OK)
        return -ENOMEM;

    CURLcode code = curl_easy_perform(easy);
    if (code != CURLE_OK) {
        long system_error = 0;
        (void)curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &system_error);
        return stripe_failure(code, detail, system_error, error, error_size);
    }
    long status = 0;
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    return judge(settings, answer, status, error, error_size);
}

int stripe_check(const struct stripe_settings *settings, char *error, size_t error_size) {
    assert(settings);
    assert(error && error_size > 0);

    (void)snprintf(error, error_size, "not enough memory");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return -ENOMEM;
    int r = -ENOMEM;
    struct stripe_answer answer = {0};
    stripe_answer_reset(&answer);
    struct stripe_headers *headers = stripe_headers_new(settings->secret_key, settings->api_version);
    CURL *easy = curl_easy_init();
    if (headers && easy)
        r = ask(easy, settings, headers, &answer, error, error_size);
    curl_easy_cleanup(easy);
    (void)stripe_headers_unref(headers);
    stripe_answer_clear(&answer);
    curl_global_cleanup();
    return r;
}
