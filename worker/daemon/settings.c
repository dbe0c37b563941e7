/* settings.c — loads all settings: from the environment, from systemd's credentials, from the files they name. */
#include "daemon/settings.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "portal/features.h"
#include "settings-private.h"

enum {
    SECRET_FILE_MAX = 16 * 1024,
    PATH_LENGTH_MAX = 4096,
    WORKER_NAME_MAX = 128,
    HOST_NAME_MAX_LENGTH = 64,
    SESSION_MARGIN_SECONDS = 60,
    CONNECT_SECONDS = 10,
    ANSWER_SECONDS = 15,
    HEARTBEAT_SECONDS = 10, /* a silent broker is noticed after twice that */
    CONFIRM_SECONDS = 10,   /* a queue that lost its leader has another in less */
    RATE_LIMIT = 20,
    RATE_LIMIT_TEST = 10,
};

/* ---- where values come from ----------------------------------------------------------------------------------------
 */

/* A setting's text, or NULL where it is not set or empty. */
static const char *from_environment(const char *name) {
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* Reads a small file whole, without the line end that editors put at its end. Result: 0 and `*ret`, the settings' own;
 * -EINVAL with a line written; -ENOMEM. */
static int read_secret(struct settings *settings, const char *name, const char *path, FILE *errors, const char **ret) {
    FILE *file = fopen(path, "re");
    if (!file) {
        int reason = errno;
        (void)fprintf(errors, "%s can't be read from \"%s\": %s\n", name, settings_show_path(path), strerror(reason));
        return -EINVAL;
    }
    (void)setvbuf(file, NULL, _IONBF, 0); /* no copy of a secret in a buffer of stdio's */
    char text[SECRET_FILE_MAX + 1];
    size_t length = fread(text, 1, sizeof text, file);
    bool failed = ferror(file) != 0;
    (void)fclose(file);
    int r = 0;
    if (failed || length > SECRET_FILE_MAX || memchr(text, '\0', length)) {
        (void)fprintf(errors, "%s can't be read from \"%s\": must be one short text\n", name, path);
        r = -EINVAL;
    } else {
        while (length > 0 && strchr(" \t\r\n", text[length - 1]))
            length--;
        text[length] = '\0';
        *ret = settings_copy(settings, text);
        r = *ret ? 0 : -ENOMEM;
    }
    explicit_bzero(text, sizeof text);
    return r;
}

/* The file of that name in $CREDENTIALS_DIRECTORY, if there is one. */
static bool credential_path(const char *name, char path[static PATH_LENGTH_MAX]) {
    const char *directory = from_environment("CREDENTIALS_DIRECTORY");
    if (!directory)
        return false;
    int length = snprintf(path, PATH_LENGTH_MAX, "%s/%s", directory, name);
    return length > 0 && length < PATH_LENGTH_MAX && access(path, F_OK) == 0;
}

static bool is_key(const struct setting *setting) {
    return setting->read == settings_read_secret_key;
}

/* The text of a secret: from systemd's credentials, from the file that another setting names, from the environment. */
static int find_secret(struct settings *settings, const struct setting *setting, FILE *errors, const char **ret) {
    char path[PATH_LENGTH_MAX];
    const char *file = is_key(setting) ? from_environment("STRIPE_SECRET_KEY_FILE") : NULL;
    const char *value = from_environment(setting->name);
    *ret = NULL;
    if (credential_path(setting->name, path))
        file = path;
    else if (file && value) {
        (void)fprintf(errors, "%s and STRIPE_SECRET_KEY_FILE are both set: must be one of them\n", setting->name);
        return -EINVAL;
    }
    if (file) {
        if (is_key(setting) && !(settings->owner->key_file = settings_copy(settings, file)))
            return -ENOMEM;
        return read_secret(settings, setting->name, file, errors, ret);
    }
    if (value && !(*ret = settings_copy(settings, value)))
        return -ENOMEM;
    return 0;
}

/* Takes a secret out of the environment, and out of the memory that /proc/<pid>/environ shows. */
static void wipe_environment(void) {
    for (size_t i = 0; i < settings_count; i++) {
        char *value = settings_table[i].secret ? getenv(settings_table[i].name) : NULL;
        if (!value)
            continue;
        explicit_bzero(value, strlen(value));
        (void)unsetenv(settings_table[i].name);
    }
}

/* ---- one after the other --------------------------------------------------------------------------------------------
 */

static int load_one(struct settings *settings, const struct setting *setting, FILE *errors) {
    const char *value = NULL;
    if (setting->secret) {
        int r = find_secret(settings, setting, errors, &value);
        if (r < 0)
            return r;
    } else
        value = from_environment(setting->name);
    if (!value || !value[0])
        value = setting->standard;
    if (!value)
        return settings_refuse(setting, NULL, errors);
    if (!value[0] || !setting->read)
        return 0;
    return setting->read(settings, setting, value, errors);
}

static bool is_among(const char *name, const char *const *names) {
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

/* `names`: which ones, NULL at the end; or NULL: all. */
static int load_each(struct settings *settings, const char *const *names, FILE *errors) {
    int result = 0;
    for (size_t i = 0; i < settings_count; i++) {
        if (names && !is_among(settings_table[i].name, names))
            continue;
        int r = load_one(settings, &settings_table[i], errors);
        if (r == -ENOMEM)
            return r;
        if (r < 0)
            result = r;
    }
    return result;
}

/* Each line about the file says which setting named it. */
static int read_features(const char *path, struct features **ret, FILE *errors) {
    char *lines = NULL;
    size_t size = 0;
    if (path && settings_check_file("PORTAL_CONFIGURATION_FILE", path, errors) < 0)
        return -EINVAL;
    FILE *about = open_memstream(&lines, &size);
    if (!about)
        return -ENOMEM;
    int r = features_load(path, ret, about);
    (void)fclose(about); /* fails only without memory for the lines */
    char *rest = NULL;
    for (char *line = lines ? strtok_r(lines, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest))
        (void)fprintf(errors, "PORTAL_CONFIGURATION_FILE: %s\n", line);
    free(lines);
    return r < 0 && r != -ENOMEM ? -EINVAL : r;
}

static int load_features(struct settings *settings, FILE *errors) {
    const char *path = from_environment("PORTAL_CONFIGURATION_FILE");
    if (path && !(settings->owner->features_file = settings_copy(settings, path)))
        return -ENOMEM;
    int r = read_features(path, &settings->owner->features, errors);
    settings->portal.features = settings->owner->features;
    return r;
}

/* What several modules want to know, what no setting says, and what depends on another setting. */
static int complete(struct settings *settings) {
    char host[HOST_NAME_MAX_LENGTH + 1] = "";
    char name[WORKER_NAME_MAX];
    if (gethostname(host, sizeof host - 1) < 0)
        return -errno;
    (void)snprintf(name, sizeof name, "%s:%d:%lld", host, (int)getpid(), (long long)time(NULL));
    const char *worker = settings_copy(settings, name);
    if (!worker)
        return -ENOMEM;

    bool live = settings->stripe.secret_key && settings_key_is_live(settings->stripe.secret_key);
    settings->portal.worker = settings->broker.worker = settings->store.worker = worker;
    settings->portal.livemode = settings->store.livemode = live;
    settings->portal.plain_http =
        settings->stripe.api_base && strncasecmp(settings->stripe.api_base, "http://", 7) == 0;
    settings->portal.stripe_concurrency = settings->stripe.concurrency;
    if (!from_environment("STRIPE_RATE_LIMIT"))
        settings->portal.stripe_rate_limit = live ? RATE_LIMIT : RATE_LIMIT_TEST;
    settings->broker.prefetch = (uint16_t)settings->portal.concurrency;
    settings->broker.reply_ttl_ms *= 1000; /* set in seconds */
    settings->broker.connect_seconds = CONNECT_SECONDS;
    settings->broker.heartbeat_seconds = HEARTBEAT_SECONDS;
    settings->broker.answer_seconds = CONFIRM_SECONDS;
    settings->store.account = settings->portal.account;
    settings->store.session_seconds = settings->portal.session_seconds;
    settings->store.session_reuse_seconds = settings->portal.session_reuse_seconds;
    settings->store.session_margin_seconds = SESSION_MARGIN_SECONDS;
    settings->store.connect_seconds = CONNECT_SECONDS;
    settings->store.answer_seconds = ANSWER_SECONDS;
    settings->stripe.user_agent = "portal-worker/" PORTAL_VERSION;
    return 0;
}

/* Whether a URL's host is this machine itself. */
static bool is_loopback(const char *url) {
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t length = strcspn(host, ":/");
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0 ||
           (length == 9 && strncasecmp(host, "localhost", 9) == 0);
}

/* What is right for itself and wrong together. One that was wrong by itself is left out, and is still what it was
 * before it was read: nothing. */
static int check_together(const struct settings *settings, FILE *errors) {
    int r = 0;
    if (settings->portal.session_seconds > 0 &&
        settings->portal.session_reuse_seconds + SESSION_MARGIN_SECONDS > settings->portal.session_seconds) {
        (void)fprintf(errors,
                      "PORTAL_SESSION_REUSE_SECONDS is \"%u\": must be at least %d less than PORTAL_SESSION_SECONDS\n",
                      settings->portal.session_reuse_seconds, SESSION_MARGIN_SECONDS);
        r = -EINVAL;
    }
    if (settings->portal.livemode && settings->stripe.api_base &&
        strncasecmp(settings->stripe.api_base, "http://", 7) == 0 && !is_loopback(settings->stripe.api_base)) {
        (void)fprintf(errors, "STRIPE_API_BASE is \"%s\": must be https, for a live key is never sent in the clear\n",
                      settings->stripe.api_base);
        r = -EINVAL;
    }
    return r;
}

/* A misspelt setting would silently have no effect. */
static void warn_of_unknown(FILE *errors) {
    for (char **variable = environ; variable && *variable; variable++) {
        char name[64];
        size_t length = strcspn(*variable, "=");
        if (length >= sizeof name || (strncmp(*variable, "PORTAL_", 7) != 0 && strncmp(*variable, "STRIPE_", 7) != 0))
            continue;
        memcpy(name, *variable, length);
        name[length] = '\0';
        const char *nearest = settings_nearest(name);
        if (nearest && strcmp(nearest, name) == 0)
            continue;
        (void)fprintf(errors, "warning: %s is no setting of portal-worker%s%s%s\n", name,
                      nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    }
}

int settings_load(struct settings *settings, FILE *errors) {
    assert(settings);
    assert(errors);

    *settings = (struct settings){.owner = calloc(1, sizeof *settings->owner)};
    if (!settings->owner)
        return -ENOMEM;
    int r = load_each(settings, NULL, errors);
    if (r != -ENOMEM) {
        int features = load_features(settings, errors);
        r = features < 0 ? features : r;
    }
    if (r != -ENOMEM) {
        int together = complete(settings);
        together = together < 0 ? together : check_together(settings, errors);
        r = together < 0 ? together : r;
    }
    warn_of_unknown(errors);
    wipe_environment();
    if (r < 0)
        settings_free(settings);
    return r;
}

int settings_load_only(struct settings *settings, const char *const *names, FILE *errors) {
    assert(settings);
    assert(names);
    assert(errors);

    *settings = (struct settings){.owner = calloc(1, sizeof *settings->owner)};
    if (!settings->owner)
        return -ENOMEM;
    int r = load_each(settings, names, errors);
    if (r >= 0)
        r = complete(settings);
    if (r < 0)
        settings_free(settings);
    return r;
}

/* ---- again ---- */

static const struct setting *key_setting(void) {
    for (size_t i = 0; i < settings_count; i++)
        if (is_key(&settings_table[i]))
            return &settings_table[i];
    assert(false);
    return NULL;
}

/* Puts a new key in the place of the old one; of the same mode, for mode and account are part of what is stored. */
static int reread_key(struct settings *settings, FILE *errors) {
    const struct setting *setting = key_setting();
    struct settings_owner owner = {0};
    struct settings fresh = {.owner = &owner};
    const char *value = NULL;
    int r = read_secret(&fresh, setting->name, settings->owner->key_file, errors, &value);
    if (r >= 0)
        r = setting->read(&fresh, setting, value, errors);
    if (r >= 0 && settings_key_is_live(value) != settings->portal.livemode) {
        (void)fprintf(errors, "%s is now of %s mode: must be of the same mode until a restart\n", setting->name,
                      settings->portal.livemode ? "test" : "live");
        r = -EINVAL;
    }
    if (r >= 0 && strcmp(value, settings->stripe.secret_key) != 0) {
        const char *copy = settings_copy(settings, value);
        if (copy) {
            char *old = (char *)settings->stripe.secret_key;
            explicit_bzero(old, strlen(old));
            settings->stripe.secret_key = copy;
        } else
            r = -ENOMEM;
    }
    settings_wipe_texts(&fresh);
    return r;
}

int settings_reread(struct settings *settings, FILE *errors) {
    assert(settings && settings->owner);
    assert(errors);

    struct settings_owner *owner = settings->owner;
    struct features *features = NULL;
    int r = read_features(owner->features_file, &features, errors);
    if (r >= 0 && owner->key_file)
        r = reread_key(settings, errors);
    if (r < 0) {
        features_free(features);
        return r;
    }
    features_free(owner->features_before);
    owner->features_before = owner->features;
    owner->features = features;
    settings->portal.features = features;
    return 0;
}

void settings_free(struct settings *settings) {
    if (!settings || !settings->owner)
        return;
    features_free(settings->owner->features);
    features_free(settings->owner->features_before);
    settings_wipe_texts(settings);
    free(settings->owner);
    *settings = (struct settings){0};
}

void settings_help(FILE *out) {
    assert(out);

    for (size_t i = 0; i < settings_count; i++) {
        const struct setting *setting = &settings_table[i];
        (void)fprintf(out, "  %-30s %s\n", setting->name, setting->meaning);
        if (!setting->standard)
            (void)fprintf(out, "  %-30s required\n", "");
        else if (setting->standard[0])
            (void)fprintf(out, "  %-30s default: %s\n", "", setting->standard);
    }
}
