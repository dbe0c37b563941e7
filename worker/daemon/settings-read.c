/* settings-read.c — the kinds of values a setting can have: each function checks a text and puts it in its place. */
#include "settings-private.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <unistd.h>

enum { URL_MAX = 2048, KEY_MAX = 255, NAMESPACE_MAX = 64, WORD_MAX = 255, ERROR_MAX = 256 };

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* The member of the settings that a row of the table names. */
static void *member(struct settings *settings, const struct setting *setting) {
    return (char *)settings + setting->offset;
}

static int keep(struct settings *settings, const struct setting *setting, const char *value) {
    const char *copy = settings_copy(settings, value);
    if (!copy)
        return -ENOMEM;
    *(const char **)member(settings, setting) = copy;
    return 0;
}

/* Whether all of `text` is of these characters, and there is some. */
static bool made_of(const char *text, const char *characters) {
    return text[0] && text[strspn(text, characters)] == '\0';
}

int settings_read_amqp_urls(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    char **urls = settings_split(settings, value);
    if (!urls)
        return -ENOMEM;
    if (!urls[0])
        return settings_refuse(setting, NULL, errors);
    int r = 0;
    for (size_t i = 0; urls[i]; i++) {
        char error[ERROR_MAX] = "";
        if (broker_url_check(urls[i], error, sizeof error) >= 0)
            continue;
        (void)fprintf(errors, "%s is wrong in its URL no. %zu: %s\n", setting->name, i + 1, error);
        r = -EINVAL;
    }
    *(char *const **)member(settings, setting) = urls;
    return r;
}

int settings_read_database_url(struct settings *settings, const struct setting *setting, const char *value,
                               FILE *errors) {
    char error[ERROR_MAX] = "";
    if (store_url_check(value, error, sizeof error) < 0) {
        (void)fprintf(errors, "%s is wrong: %s\n", setting->name, error);
        return -EINVAL;
    }
    return keep(settings, setting, value);
}

bool settings_key_is_live(const char *key) {
    return strncmp(key + 2, "_live_", 6) == 0;
}

int settings_read_secret_key(struct settings *settings, const struct setting *setting, const char *value,
                             FILE *errors) {
    static const char *const prefixes[] = {"sk_test_", "sk_live_", "rk_test_", "rk_live_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(value, prefixes[i], 8) == 0 && strlen(value) <= KEY_MAX && made_of(value + 8, ALNUM "_-."))
            return keep(settings, setting, value);
    return settings_refuse(setting, value, errors);
}

/* What libcurl's parser finds wrong, or finds that does not belong: user, query, fragment. */
static bool web_url_parses(const char *value) {
    CURLU *url = curl_url();
    char *part = NULL;
    bool good = url && curl_url_set(url, CURLUPART_URL, value, 0) == CURLUE_OK;
    static const CURLUPart unwanted[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY, CURLUPART_FRAGMENT};
    for (size_t i = 0; good && i < sizeof unwanted / sizeof unwanted[0]; i++) {
        good = curl_url_get(url, unwanted[i], &part, 0) != CURLUE_OK;
        curl_free(part);
        part = NULL;
    }
    good = good && curl_url_get(url, CURLUPART_HOST, &part, 0) == CURLUE_OK && part[0] != '\0';
    curl_free(part);
    curl_url_cleanup(url);
    return good;
}

/* An absolute http(s) URL to which a path can be appended: what RFC 3986 allows in authority and path, nothing else. */
int settings_read_web_url(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    size_t scheme = strncasecmp(value, "https://", 8) == 0 ? 8 : strncasecmp(value, "http://", 7) == 0 ? 7 : 0;
    if (scheme == 0 || strlen(value) > URL_MAX || !made_of(value + scheme, ALNUM "-._~!$&'()*+,;=:@/%[]") ||
        value[scheme] == '/' || !web_url_parses(value))
        return settings_refuse(setting, value, errors);

    char *copy = settings_copy(settings, value);
    if (!copy)
        return -ENOMEM;
    size_t length = strlen(copy);
    while (copy[length - 1] == '/')
        copy[--length] = '\0';
    *(const char **)member(settings, setting) = copy;
    return 0;
}

/* A Stripe version is a date, from 2024-09-30 on with a name: 2025-04-30.basil. */
int settings_read_version(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    static const char pattern[] = "dddd-dd-dd";
    for (size_t i = 0; i < sizeof pattern - 1; i++) {
        bool digit = value[i] >= '0' && value[i] <= '9';
        if (pattern[i] == 'd' ? !digit : value[i] != pattern[i])
            return settings_refuse(setting, value, errors);
    }
    const char *name = value + sizeof pattern - 1;
    if (name[0] && (name[0] != '.' || !made_of(name + 1, ALNUM "_-") || strlen(name) > NAMESPACE_MAX))
        return settings_refuse(setting, value, errors);
    return keep(settings, setting, value);
}

int settings_check_file(const char *name, const char *path, FILE *errors) {
    if (access(path, R_OK) == 0)
        return 0;
    int reason = errno;
    (void)fprintf(errors, "%s is \"%s\", which can't be read: %s\n", name, settings_show_path(path), strerror(reason));
    return -EINVAL;
}

int settings_read_file(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    int r = settings_check_file(setting->name, value, errors);
    return r < 0 ? r : keep(settings, setting, value);
}

int settings_read_path(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    if (value[0] != '/')
        return settings_refuse(setting, value, errors);
    return keep(settings, setting, value);
}

int settings_read_number(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    uint64_t number = 0;
    bool good = value[0] != '\0';
    for (const char *c = value; good && *c; c++) {
        good = *c >= '0' && *c <= '9' && number <= setting->most;
        number = number * 10 + (uint64_t)(*c - '0');
    }
    if (!good || number < setting->least || number > setting->most) {
        char right[ERROR_MAX];
        (void)snprintf(right, sizeof right, "must be a whole number from %" PRIu32 " to %" PRIu32, setting->least,
                       setting->most);
        struct setting told = *setting;
        told.right = right;
        return settings_refuse(&told, value, errors);
    }
    *(uint32_t *)member(settings, setting) = (uint32_t)number;
    return 0;
}

int settings_read_name(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    if (strlen(value) > NAMESPACE_MAX || !made_of(value, ALNUM "._-"))
        return settings_refuse(setting, value, errors);
    return keep(settings, setting, value);
}

/* A list of words; "none" alone is the empty list. */
int settings_read_words(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    char **words = settings_split(settings, value);
    if (!words)
        return -ENOMEM;
    if (words[0] && !words[1] && strcmp(words[0], "none") == 0)
        words[0] = NULL;
    for (size_t i = 0; words[i]; i++)
        for (const unsigned char *c = (unsigned char *)words[i]; *c; c++)
            if (*c < ' ' || *c == 0x7f || strlen(words[i]) > WORD_MAX)
                return settings_refuse(setting, value, errors);
    *(char *const **)member(settings, setting) = words;
    return 0;
}

int settings_read_policy(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    settings->portal.fixed_configuration = NULL;
    if (strcmp(value, "shared") == 0)
        settings->portal.policy = POLICY_SHARED;
    else if (strcmp(value, "per-product") == 0)
        settings->portal.policy = POLICY_PER_PRODUCT;
    else if (strncmp(value, "bpc_", 4) == 0 && strlen(value) <= WORD_MAX && made_of(value + 4, ALNUM "_")) {
        settings->portal.policy = POLICY_FIXED;
        return keep(settings, setting, value);
    } else
        return settings_refuse(setting, value, errors);
    return 0;
}

int settings_read_topology(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    bool verify = strcmp(value, "verify") == 0;
    if (!verify && strcmp(value, "declare") != 0)
        return settings_refuse(setting, value, errors);
    *(bool *)member(settings, setting) = verify;
    return 0;
}

int settings_read_level(struct settings *settings, const struct setting *setting, const char *value, FILE *errors) {
    static const struct {
        const char *name;
        int level;
    } levels[] = {
        {"error", LOG_ERR}, {"warning", LOG_WARNING}, {"notice", LOG_NOTICE}, {"info", LOG_INFO}, {"debug", LOG_DEBUG},
    };
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if (strcmp(value, levels[i].name) == 0) {
            *(int *)member(settings, setting) = levels[i].level;
            return 0;
        }
    return settings_refuse(setting, value, errors);
}
