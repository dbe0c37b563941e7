/* test_settings.c — settings: defaults, every wrong value and its line, all at once, secrets, reading again. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/settings.h"

#define AMQP "amqp://guest:hush-amqp@127.0.0.1/"
#define DATABASE "postgresql://portal:hush-database@127.0.0.1/app"
#define KEY "sk_test_hushstripe"

struct loaded {
    struct settings settings;
    int result;
    char *errors;
    size_t errors_size;
};

/* A clean environment with what is required. */
static void environment(void) {
    assert_int_equal(clearenv(), 0);
    assert_int_equal(setenv("AMQP_URL", AMQP, 1), 0);
    assert_int_equal(setenv("DATABASE_URL", DATABASE, 1), 0);
    assert_int_equal(setenv("STRIPE_SECRET_KEY", KEY, 1), 0);
    assert_int_equal(setenv("BASE_URL", "https://app.example.com/", 1), 0);
}

static void load(struct loaded *loaded) {
    *loaded = (struct loaded){0};
    FILE *errors = open_memstream(&loaded->errors, &loaded->errors_size);
    assert_non_null(errors);
    loaded->result = settings_load(&loaded->settings, errors);
    assert_int_equal(fclose(errors), 0);
}

static void unload(struct loaded *loaded) {
    settings_free(&loaded->settings);
    free(loaded->errors);
}

static unsigned lines(const char *text) {
    unsigned count = 0;
    for (; *text; text++)
        count += *text == '\n';
    return count;
}

/* A file of its own in the tests' folder; the name is the caller's to unlink. */
static void write_file(char path[static 64], const char *content) {
    const char *folder = getenv("TMPDIR");
    (void)snprintf(path, 64, "%s/settings-XXXXXX", folder && strlen(folder) < 40 ? folder : "/tmp");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    assert_int_equal(close(fd), 0);
}

static void rewrite_file(const char *path, const char *content) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void defaults_are_those_of_the_design(void **state) {
    (void)state;
    struct loaded loaded;
    environment();
    load(&loaded);
    assert_int_equal(loaded.result, 0);
    assert_string_equal(loaded.errors, "");
    const struct settings *settings = &loaded.settings;
    assert_string_equal(settings->broker.urls[0], AMQP);
    assert_null(settings->broker.urls[1]);
    assert_string_equal(settings->store.url, DATABASE);
    assert_string_equal(settings->stripe.secret_key, KEY);
    assert_string_equal(settings->portal.base_url, "https://app.example.com");
    assert_string_equal(settings->stripe.api_base, "https://api.stripe.com");
    assert_string_equal(settings->stripe.api_version, "2025-04-30.basil");
    assert_null(settings->stripe.ca_file);
    assert_int_equal(settings->portal.stripe_rate_limit, 10);
    assert_false(settings->portal.livemode);
    assert_int_equal(settings->stripe.concurrency, 100);
    assert_int_equal(settings->portal.stripe_concurrency, 100);
    assert_int_equal(settings->portal.stripe_max_retries, 5);
    assert_int_equal(settings->stripe.connect_ms, 10000);
    assert_int_equal(settings->stripe.answer_ms, 30000);
    assert_int_equal(settings->stripe.total_ms, 80000);
    assert_string_equal(settings->portal.account, "default");
    assert_string_equal(settings->store.account, "default");
    assert_int_equal(settings->portal.concurrency, 256);
    assert_int_equal(settings->broker.prefetch, 256);
    static const char *const queues[] = {"portal.replies", "portal.replies.*", "amq.gen-*", "amq.rabbitmq.reply-to.*"};
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(settings->portal.reply_queues[i], queues[i]);
    assert_null(settings->portal.reply_queues[4]);
    assert_null(settings->portal.team_senders);
    assert_string_equal(settings->portal.refused_statuses[0], "canceled");
    assert_string_equal(settings->portal.refused_statuses[1], "incomplete_expired");
    assert_null(settings->portal.refused_statuses[2]);
    assert_int_equal(settings->portal.policy, POLICY_SHARED);
    assert_null(settings->portal.fixed_configuration);
    assert_non_null(settings->portal.features);
    assert_int_equal(settings->portal.prices_seconds, 300);
    assert_int_equal(settings->portal.deadline_seconds, 900);
    assert_int_equal(settings->portal.hold_seconds, 60);
    assert_int_equal(settings->portal.session_seconds, 300);
    assert_int_equal(settings->store.session_seconds, 300);
    assert_int_equal(settings->portal.session_reuse_seconds, 120);
    assert_int_equal(settings->store.session_reuse_seconds, 120);
    assert_int_equal(settings->store.session_margin_seconds, 60);
    assert_int_equal(settings->drain_seconds, 30);
    assert_false(settings->broker.verify_topology);
    assert_int_equal(settings->broker.reply_ttl_ms, 3600 * 1000);
    assert_int_equal(settings->broker.reply_max_length, 100000);
    assert_int_equal(settings->log_level, LOG_INFO);
    assert_null(settings->metrics_file);
    assert_non_null(strchr(settings->portal.worker, ':'));
    assert_ptr_equal(settings->portal.worker, settings->store.worker);
    unload(&loaded);
}

static const struct {
    const char *name;
    const char *value;
    const char *words;
} wrong[] = {
    {"AMQP_URL", "http://127.0.0.1/", "amqp"},
    {"AMQP_URL", AMQP ",nonsense", "no. 2"},
    {"AMQP_URL", ", ,", "amqp"},
    {"DATABASE_URL", "mysql://x/y", ""},
    {"STRIPE_SECRET_KEY", "pk_test_public", "sk_test_"},
    {"STRIPE_SECRET_KEY", "sk_test_", "sk_test_"},
    {"STRIPE_SECRET_KEY", "sk_test_a\nX-Evil: 1", "sk_test_"},
    {"STRIPE_SECRET_KEY", "sk_prod_a", "sk_test_"},
    {"BASE_URL", "app.example.com", "absolute"},
    {"BASE_URL", "ftp://app.example.com", "absolute"},
    {"BASE_URL", "https://", "absolute"},
    {"BASE_URL", "https:///path", "absolute"},
    {"BASE_URL", "https://a b", "absolute"},
    {"BASE_URL", "https://a\tb", "\\x09"},
    {"BASE_URL", "https://user@app.example.com", "absolute"},
    {"BASE_URL", "https://user:pass@app.example.com", "absolute"},
    {"BASE_URL", "https://app.example.com/?a=b", "absolute"},
    {"BASE_URL", "https://app.example.com/?", "absolute"},
    {"BASE_URL", "https://app.example.com/#top", "absolute"},
    {"BASE_URL", "https://app.example.com\\evil", "absolute"},
    {"BASE_URL", "https://app.example.com:99999", "absolute"},
    {"STRIPE_SECRET_KEY_FILE", "/nowhere/key", "both"},
    {"STRIPE_API_BASE", "api.stripe.com", "absolute"},
    {"STRIPE_API_VERSION", "new\nest", "2025-04-30.basil"},
    {"STRIPE_API_VERSION", "2025-04-3", "2025-04-30.basil"},
    {"STRIPE_API_VERSION", "2025-04-30basil", "2025-04-30.basil"},
    {"STRIPE_API_VERSION", "2025-04-30.", "2025-04-30.basil"},
    {"STRIPE_RATE_LIMIT", "-1", "from 0 to"},
    {"STRIPE_RATE_LIMIT", "fast", "whole number"},
    {"STRIPE_RATE_LIMIT", "10001", "to 10000"},
    {"STRIPE_CONCURRENCY", "0", "from 1 to"},
    {"STRIPE_CONCURRENCY", "18446744073709551617", "from 1 to"},
    {"STRIPE_MAX_RETRIES", " 5", "whole number"},
    {"STRIPE_CONNECT_TIMEOUT_MS", "5s", "whole number"},
    {"STRIPE_ANSWER_TIMEOUT_MS", "0", "from"},
    {"STRIPE_TIMEOUT_MS", "1e3", "whole number"},
    {"STRIPE_CA_FILE", "/nowhere.pem", "\"/nowhere.pem\", which can't be read"},
    {"STRIPE_CA_FILE", KEY, "can't be read"},
    {"PORTAL_NAMESPACE", "a b", "1 to 64"},
    {"PORTAL_NAMESPACE", "0123456789012345678901234567890123456789012345678901234567890123x", "1 to 64"},
    {"PORTAL_CONCURRENCY", "0", "from 1 to 4096"},
    {"PORTAL_CONCURRENCY", "4097", "from 1 to 4096"},
    {"PORTAL_CONCURRENCY", "12x", "from 1 to 4096"},
    {"PORTAL_REPLY_QUEUES", "a,b\x01", "patterns"},
    {"PORTAL_TEAM_SENDERS", "a\x7f", "AMQP users"},
    {"PORTAL_REFUSED_STATUSES", "\x02", "statuses"},
    {"PORTAL_CONFIGURATION", "everyone", "per-product"},
    {"PORTAL_CONFIGURATION", "bpc_", "per-product"},
    {"PORTAL_CONFIGURATION", "bpc_/../x", "per-product"},
    {"PORTAL_CONFIGURATION_FILE", "/nowhere.json", "\"/nowhere.json\", which can't be read"},
    {"PORTAL_CONFIGURATION_FILE", KEY, "can't be read"},
    {"PORTAL_PRICES_SECONDS", "0", "from 1"},
    {"PORTAL_DEADLINE_SECONDS", "-5", "from 0"},
    {"PORTAL_HOLD_SECONDS", "soon", "whole number"},
    {"PORTAL_HOLD_SECONDS", "901", "to 900"},
    {"PORTAL_SESSION_SECONDS", "69", "from 70"},
    {"PORTAL_SESSION_SECONDS", "170", "PORTAL_SESSION_REUSE_SECONDS"},
    {"PORTAL_SESSION_REUSE_SECONDS", "241", "to 240"},
    {"PORTAL_DRAIN_SECONDS", "1.5", "whole number"},
    {"AMQP_TOPOLOGY", "maybe", "declare or verify"},
    {"PORTAL_REPLIES_TTL_SECONDS", "0", "from 1"},
    {"PORTAL_REPLIES_MAX_LENGTH", "0", "from 1"},
    {"PORTAL_METRICS_FILE", "metrics.prom", "absolute path"},
    {"PORTAL_LOG_LEVEL", "loud", "warning"},
};

/* A wrong value makes one line, which names the setting and says what would be right, and nothing else fails. */
static void each_wrong_value_has_its_line(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct loaded loaded;
        environment();
        assert_int_equal(setenv(wrong[i].name, wrong[i].value, 1), 0);
        load(&loaded);
        if (loaded.result != -EINVAL || lines(loaded.errors) != 1 || !strstr(loaded.errors, wrong[i].name) ||
            !strstr(loaded.errors, wrong[i].words) || strstr(loaded.errors, "hush"))
            fail_msg("%s=%s gives %d and:\n%s", wrong[i].name, wrong[i].value, loaded.result, loaded.errors);
        assert_null(loaded.settings.owner);
        unload(&loaded);
    }
}

static void right_values_are_taken(void **state) {
    (void)state;
    struct loaded loaded;
    environment();
    (void)setenv("AMQP_URL", "amqp://a:b@one/,amqp://a:b@two/ amqps://a:b@three/v", 1);
    (void)setenv("STRIPE_SECRET_KEY", "rk_live_abc", 1);
    (void)setenv("BASE_URL", "HTTPS://[::1]:8443/base/path//", 1);
    (void)setenv("STRIPE_API_BASE", "http://localhost:1234", 1);
    (void)setenv("STRIPE_API_VERSION", "2023-10-16", 1);
    (void)setenv("PORTAL_CONFIGURATION", "bpc_1AbC", 1);
    (void)setenv("PORTAL_TEAM_SENDERS", "billing,support", 1);
    (void)setenv("PORTAL_REFUSED_STATUSES", "none", 1);
    (void)setenv("PORTAL_SESSION_REUSE_SECONDS", "0", 1);
    (void)setenv("PORTAL_CONCURRENCY", "4096", 1);
    (void)setenv("AMQP_TOPOLOGY", "verify", 1);
    (void)setenv("PORTAL_LOG_LEVEL", "debug", 1);
    load(&loaded);
    assert_string_equal(loaded.errors, "");
    assert_int_equal(loaded.result, 0);
    const struct settings *settings = &loaded.settings;
    assert_string_equal(settings->broker.urls[2], "amqps://a:b@three/v");
    assert_null(settings->broker.urls[3]);
    assert_true(settings->portal.livemode && settings->store.livemode);
    assert_int_equal(settings->portal.stripe_rate_limit, 20);
    assert_string_equal(settings->portal.base_url, "HTTPS://[::1]:8443/base/path");
    assert_int_equal(settings->portal.policy, POLICY_FIXED);
    assert_string_equal(settings->portal.fixed_configuration, "bpc_1AbC");
    assert_string_equal(settings->portal.team_senders[1], "support");
    assert_null(settings->portal.refused_statuses[0]);
    assert_int_equal(settings->portal.session_reuse_seconds, 0);
    assert_int_equal(settings->broker.prefetch, 4096);
    assert_true(settings->broker.verify_topology);
    assert_int_equal(settings->log_level, LOG_DEBUG);
    unload(&loaded);
}

static void a_rate_limit_that_is_set_wins_over_the_mode(void **state) {
    (void)state;
    struct loaded loaded;
    environment();
    (void)setenv("STRIPE_RATE_LIMIT", "0", 1);
    load(&loaded);
    assert_int_equal(loaded.result, 0);
    assert_int_equal(loaded.settings.portal.stripe_rate_limit, 0);
    unload(&loaded);
}

static void a_live_key_is_not_sent_in_the_clear(void **state) {
    (void)state;
    struct loaded loaded;
    environment();
    (void)setenv("STRIPE_SECRET_KEY", "sk_live_abc", 1);
    (void)setenv("STRIPE_API_BASE", "http://stripe.example.com", 1);
    load(&loaded);
    assert_int_equal(loaded.result, -EINVAL);
    assert_non_null(strstr(loaded.errors, "STRIPE_API_BASE"));
    unload(&loaded);
}

static void every_error_is_told_at_once(void **state) {
    (void)state;
    struct loaded loaded;
    assert_int_equal(clearenv(), 0);
    (void)setenv("PORTAL_CONCURRENCY", "many", 1);
    (void)setenv("AMQP_TOPOLOGY", "?", 1);
    (void)setenv("PORTAL_CONFIGURATION_FILE", "/nowhere.json", 1);
    load(&loaded);
    assert_int_equal(loaded.result, -EINVAL);
    static const char *const names[] = {"AMQP_URL",           "DATABASE_URL",  "STRIPE_SECRET_KEY",        "BASE_URL",
                                        "PORTAL_CONCURRENCY", "AMQP_TOPOLOGY", "PORTAL_CONFIGURATION_FILE"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_non_null(strstr(loaded.errors, names[i]));
    assert_int_equal(lines(loaded.errors), sizeof names / sizeof names[0]);
    unload(&loaded);
}

static void an_empty_setting_is_not_set(void **state) {
    (void)state;
    struct loaded loaded;
    environment();
    (void)setenv("PORTAL_CONCURRENCY", "", 1);
    (void)setenv("BASE_URL", "", 1);
    load(&loaded);
    assert_int_equal(loaded.result, -EINVAL);
    assert_int_equal(lines(loaded.errors), 1);
    assert_non_null(strstr(loaded.errors, "BASE_URL is not set"));
    unload(&loaded);
}

static void a_misspelt_setting_is_warned_of(void **state) {
    (void)state;
    struct loaded loaded;
    environment();
    (void)setenv("PORTAL_CONCURENCY", "5", 1);
    (void)setenv("STRIPE_WEBHOOK_SIGNATURES", "x", 1);
    (void)setenv("UNRELATED", "x", 1);
    load(&loaded);
    assert_int_equal(loaded.result, 0);
    assert_int_equal(lines(loaded.errors), 2);
    assert_non_null(strstr(loaded.errors, "warning: PORTAL_CONCURENCY is no setting of portal-worker; did you mean "
                                          "PORTAL_CONCURRENCY?\n"));
    assert_non_null(strstr(loaded.errors, "warning: STRIPE_WEBHOOK_SIGNATURES is no setting of portal-worker\n"));
    unload(&loaded);
}

static void a_key_that_is_given_for_its_file_is_not_shown(void **state) {
    (void)state;
    struct loaded loaded;
    environment();
    (void)unsetenv("STRIPE_SECRET_KEY");
    (void)setenv("STRIPE_SECRET_KEY_FILE", KEY, 1);
    load(&loaded);
    assert_int_equal(loaded.result, -EINVAL);
    assert_non_null(strstr(loaded.errors, "STRIPE_SECRET_KEY can't be read from"));
    assert_null(strstr(loaded.errors, "hush"));
    unload(&loaded);
}

static void secrets_are_wiped_from_the_environment(void **state) {
    (void)state;
    struct loaded loaded;
    static char variable[] = "STRIPE_SECRET_KEY=" KEY;
    environment();
    assert_int_equal(putenv(variable), 0); /* the memory stays ours, as the kernel's copy of the start would */
    load(&loaded);
    assert_int_equal(loaded.result, 0);
    assert_null(getenv("STRIPE_SECRET_KEY"));
    assert_null(getenv("AMQP_URL"));
    assert_null(getenv("DATABASE_URL"));
    assert_string_equal(variable, "STRIPE_SECRET_KEY=");
    for (size_t i = strlen(variable); i < sizeof variable; i++)
        assert_int_equal(variable[i], 0);
    assert_string_equal(loaded.settings.stripe.secret_key, KEY);
    unload(&loaded);
}

static void only_what_is_asked_for_is_read(void **state) {
    (void)state;
    static const char *const one[] = {"DATABASE_URL", NULL};
    static const char *const two[] = {"DATABASE_URL", "PORTAL_DEADLINE_SECONDS", NULL};
    struct loaded loaded = {0};
    assert_int_equal(clearenv(), 0);
    assert_int_equal(setenv("DATABASE_URL", DATABASE, 1), 0);
    assert_int_equal(setenv("PORTAL_DEADLINE_SECONDS", "never", 1), 0);
    FILE *errors = open_memstream(&loaded.errors, &loaded.errors_size);
    assert_non_null(errors);
    for (unsigned i = 0; i < 2; i++) { /* the environment stays as it is */
        assert_int_equal(settings_load_only(&loaded.settings, one, errors), 0);
        assert_string_equal(loaded.settings.store.url, DATABASE);
        assert_null(loaded.settings.broker.urls);
        settings_free(&loaded.settings);
    }
    assert_int_equal(fflush(errors), 0);
    assert_string_equal(loaded.errors, "");
    assert_int_equal(settings_load_only(&loaded.settings, two, errors), -EINVAL);
    assert_int_equal(fclose(errors), 0);
    assert_int_equal(lines(loaded.errors), 1);
    assert_non_null(strstr(loaded.errors, "PORTAL_DEADLINE_SECONDS"));
    free(loaded.errors);
}

static void credentials_win_over_the_environment(void **state) {
    (void)state;
    struct loaded loaded;
    char folder[] = "/tmp/credentials-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/STRIPE_SECRET_KEY", folder);
    rewrite_file(path, "sk_test_fromcredential\n");
    environment();
    (void)setenv("CREDENTIALS_DIRECTORY", folder, 1);
    load(&loaded);
    assert_int_equal(loaded.result, 0);
    assert_string_equal(loaded.settings.stripe.secret_key, "sk_test_fromcredential");
    assert_string_equal(loaded.settings.store.url, DATABASE);
    unload(&loaded);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

/* settings_reread() with its errors. */
static int reread(struct settings *settings, char **errors) {
    size_t size = 0;
    FILE *file = open_memstream(errors, &size);
    assert_non_null(file);
    int r = settings_reread(settings, file);
    assert_int_equal(fclose(file), 0);
    return r;
}

static void the_key_file_is_read_again(void **state) {
    (void)state;
    struct loaded loaded;
    char path[64];
    char *errors;
    write_file(path, "sk_test_one\n");
    environment();
    (void)unsetenv("STRIPE_SECRET_KEY");
    (void)setenv("STRIPE_SECRET_KEY_FILE", path, 1);
    load(&loaded);
    assert_int_equal(loaded.result, 0);
    assert_string_equal(loaded.settings.stripe.secret_key, "sk_test_one");

    rewrite_file(path, "sk_test_two");
    assert_int_equal(reread(&loaded.settings, &errors), 0);
    assert_string_equal(loaded.settings.stripe.secret_key, "sk_test_two");
    free(errors);

    static const char *const refused[] = {"sk_live_three", "three", ""};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        rewrite_file(path, refused[i]);
        assert_int_equal(reread(&loaded.settings, &errors), -EINVAL);
        assert_non_null(strstr(errors, "STRIPE_SECRET_KEY"));
        assert_string_equal(loaded.settings.stripe.secret_key, "sk_test_two");
        free(errors);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(reread(&loaded.settings, &errors), -EINVAL);
    free(errors);
    unload(&loaded);
}

static void the_features_are_read_again(void **state) {
    (void)state;
    struct loaded loaded;
    char path[64];
    char *errors;
    write_file(path, "{}");
    environment();
    (void)setenv("PORTAL_CONFIGURATION_FILE", path, 1);
    load(&loaded);
    assert_int_equal(loaded.result, 0);
    const struct features *before = loaded.settings.portal.features;
    assert_int_equal(reread(&loaded.settings, &errors), 0);
    assert_ptr_not_equal(loaded.settings.portal.features, before);
    free(errors);

    before = loaded.settings.portal.features;
    rewrite_file(path, "{\"nonsense\": 1}");
    assert_int_equal(reread(&loaded.settings, &errors), -EINVAL);
    assert_non_null(strstr(errors, "PORTAL_CONFIGURATION_FILE"));
    assert_ptr_equal(loaded.settings.portal.features, before);
    free(errors);
    unload(&loaded);
    assert_int_equal(unlink(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_design),
        cmocka_unit_test(each_wrong_value_has_its_line),
        cmocka_unit_test(right_values_are_taken),
        cmocka_unit_test(a_rate_limit_that_is_set_wins_over_the_mode),
        cmocka_unit_test(a_live_key_is_not_sent_in_the_clear),
        cmocka_unit_test(every_error_is_told_at_once),
        cmocka_unit_test(an_empty_setting_is_not_set),
        cmocka_unit_test(a_misspelt_setting_is_warned_of),
        cmocka_unit_test(a_key_that_is_given_for_its_file_is_not_shown),
        cmocka_unit_test(secrets_are_wiped_from_the_environment),
        cmocka_unit_test(only_what_is_asked_for_is_read),
        cmocka_unit_test(credentials_win_over_the_environment),
        cmocka_unit_test(the_key_file_is_read_again),
        cmocka_unit_test(the_features_are_read_again),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
