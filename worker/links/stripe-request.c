/* stripe-request.c — what every request to Stripe says and obeys: its headers, and the options of its handle. */
#include "stripe-private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    RECEIVE_BUFFER = 2 * 1024, /* a session is 1 KiB; libcurl keeps one for each call under way */
    UPLOAD_BUFFER = 16 * 1024, /* libcurl's least */
    IDLE_SECONDS = 60,         /* load balancers forget an idle connection after a minute or more */
};

/* A POST's own lines come first, so that the rest is a GET's list. */
enum { LINE_CONTENT_TYPE, LINE_EXPECT, LINE_AUTHORIZATION, LINE_VERSION, LINE_ACCEPT, LINES };

struct stripe_headers *stripe_headers_new(const char *secret_key, const char *api_version) {
    assert(secret_key);
    assert(api_version);

    struct stripe_headers *headers = calloc(1, sizeof *headers);
    if (!headers)
        return NULL;
    headers->references = 1;
    if (asprintf(&headers->authorization, "Authorization: Bearer %s", secret_key) < 0)
        headers->authorization = NULL;
    if (asprintf(&headers->version, "Stripe-Version: %s", api_version) < 0)
        headers->version = NULL;
    if (!headers->authorization || !headers->version)
        return stripe_headers_unref(headers);

    static char content_type[] = "Content-Type: application/x-www-form-urlencoded";
    static char expect[] = "Expect:"; /* to libcurl: don't send it */
    static char accept[] = "Accept: application/json";
    headers->lines[LINE_CONTENT_TYPE].data = content_type;
    headers->lines[LINE_EXPECT].data = expect;
    headers->lines[LINE_AUTHORIZATION].data = headers->authorization;
    headers->lines[LINE_VERSION].data = headers->version;
    headers->lines[LINE_ACCEPT].data = accept;
    static_assert(LINES == sizeof headers->lines / sizeof headers->lines[0]);
    for (size_t i = 0; i + 1 < LINES; i++)
        headers->lines[i].next = &headers->lines[i + 1];
    return headers;
}

struct stripe_headers *stripe_headers_ref(struct stripe_headers *headers) {
    assert(headers);

    headers->references++;
    return headers;
}

struct stripe_headers *stripe_headers_unref(struct stripe_headers *headers) {
    if (!headers || --headers->references > 0)
        return NULL;
    if (headers->authorization)
        explicit_bzero(headers->authorization, strlen(headers->authorization));
    free(headers->authorization);
    free(headers->version);
    free(headers);
    return NULL;
}

struct curl_slist *stripe_headers_get(struct stripe_headers *headers) {
    assert(headers);

    return &headers->lines[LINE_AUTHORIZATION];
}

struct curl_slist *stripe_headers_post(struct stripe_headers *headers) {
    assert(headers);

    return &headers->lines[LINE_CONTENT_TYPE];
}

static CURLcode set_limits(CURL *easy, const struct stripe_settings *settings, bool tls) {
    struct {
        CURLoption option;
        long value;
    } const numbers[] = {
        {CURLOPT_NOSIGNAL, 1L},
        /* Else giving up a call waits for the thread that looks its name up. */
        {CURLOPT_QUICK_EXIT, 1L},
        {CURLOPT_FOLLOWLOCATION, 0L},
        {CURLOPT_HTTP_VERSION, tls ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1},
        {CURLOPT_SSL_VERIFYPEER, 1L},
        {CURLOPT_SSL_VERIFYHOST, 2L},
        {CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2},
        {CURLOPT_CONNECTTIMEOUT_MS, (long)settings->connect_ms},
        {CURLOPT_BUFFERSIZE, RECEIVE_BUFFER},
        {CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER},
        {CURLOPT_MAXAGE_CONN, IDLE_SECONDS},
        {CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L},
        {CURLOPT_DISALLOW_USERNAME_IN_URL, 1L},
        {CURLOPT_HEADEROPT, CURLHEADER_SEPARATE},
    };
    CURLcode code = CURLE_OK;
    for (size_t i = 0; code == CURLE_OK && i < sizeof numbers / sizeof numbers[0]; i++)
        code = curl_easy_setopt(easy, numbers[i].option, numbers[i].value);
    return code;
}

int stripe_request_prepare(CURL *easy, const struct stripe_settings *settings) {
    assert(easy);
    assert(settings);

    bool tls = strncasecmp(settings->api_base, "https:", 6) == 0;
    CURLcode code = set_limits(easy, settings, tls);
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_USERAGENT, settings->user_agent);
    if (code == CURLE_OK && settings->ca_file) {
        code = curl_easy_setopt(easy, CURLOPT_CAINFO, settings->ca_file);
        if (code == CURLE_OK)
            code = curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (code == CURLE_OK)
        return 0;
    return code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
}
