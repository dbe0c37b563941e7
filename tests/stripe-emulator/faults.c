/* Rules that make chosen requests go wrong, as networks and Stripe do. */
#include "faults.h"

#include "form.h"
#include "identifiers.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum delay_kind { DELAY_NONE, DELAY_FIXED, DELAY_UNIFORM, DELAY_LOGNORMAL };

static const double FAULT_DELAY_MAX = 3600e3; /* milliseconds */

struct fault_rule {
    uint64_t number;
    json_t *text;  /* as it was given */
    json_t *match; /* borrowed from it, may be NULL */
    int64_t left;  /* how often it still applies; -1: for ever */
    int64_t skip;  /* how many matching requests it still lets pass */
    double probability;
    uint64_t matched;
    uint64_t applied;
    enum delay_kind delay;
    double delay_first;  /* milliseconds: fixed, least, median */
    double delay_second; /* milliseconds: most; or sigma */
    struct fault_effect effect;
};

/* --- reading a rule --- */

static int fault_wrong(char **error, const char *format, ...) _printf_(2, 3);
static int fault_wrong(char **error, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    *error = memory_vformat(format, arguments);
    va_end(arguments);
    return -EINVAL;
}

static int fault_check_names(const json_t *object, const char *what, const char *const *known, char **error) {
    const char *key;
    json_t *value;

    if (!json_is_object(object)) {
        return fault_wrong(error, "%s: not an object", what);
    }
    json_object_foreach((json_t *)object, key, value) {
        size_t i = 0;

        while (known[i] && strcmp(known[i], key) != 0) {
            i++;
        }
        if (!known[i]) {
            return fault_wrong(error, "%s: unknown: %s", what, key);
        }
    }
    return 0;
}

static int fault_read_pair(struct fault_rule *rule, const json_t *delay, const char *name, enum delay_kind kind) {
    const json_t *pair = json_object_get(delay, name);

    if (json_object_size(delay) != 1 || json_array_size(pair) != 2 || !json_is_number(json_array_get(pair, 0)) ||
        !json_is_number(json_array_get(pair, 1))) {
        return -EINVAL;
    }
    rule->delay = kind;
    rule->delay_first = json_number_value(json_array_get(pair, 0));
    rule->delay_second = json_number_value(json_array_get(pair, 1));
    return rule->delay_first > 0 && rule->delay_second >= 0 ? 0 : -EINVAL;
}

static int fault_read_delay(struct fault_rule *rule, const json_t *delay, char **error) {
    if (!delay) {
        return 0;
    }
    if (json_is_number(delay) && json_number_value(delay) >= 0) {
        rule->delay = DELAY_FIXED;
        rule->delay_first = json_number_value(delay);
        return 0;
    }
    if (fault_read_pair(rule, delay, "uniform", DELAY_UNIFORM) < 0 &&
        fault_read_pair(rule, delay, "lognormal", DELAY_LOGNORMAL) < 0) {
        return fault_wrong(error, "do: delay_ms: a number, {\"uniform\": [least, most]} or {\"lognormal\": [median, "
                                  "sigma]}");
    }
    return 0;
}

/* A short text such as a header's value, "" where it is not given. -EINVAL if it is no text or does not fit. */
static int fault_read_text(const json_t *action, const char *name, char *text, size_t size, char **error) {
    const json_t *value = json_object_get(action, name);

    if (!value || json_is_null(value)) {
        return 0;
    }
    if (!json_is_string(value) || json_string_length(value) >= size) {
        return fault_wrong(error, "do: %s: a text of less than %zu characters", name, size);
    }
    (void)snprintf(text, size, "%s", json_string_value(value));
    return 0;
}

static int fault_read_action(struct fault_effect *effect, const json_t *action, char **error) {
    static const struct {
        const char *name;
        enum fault_action action;
        bool works; /* unless "effect" says otherwise */
    } kinds[] = {
        {"status", FAULT_STATUS, false}, {"reset", FAULT_RESET, false}, {"hang", FAULT_HANG, false},
        {"half_body", FAULT_HALF, true}, {"json", FAULT_JSON, false},   {"not_json", FAULT_NOT_JSON, false},
    };
    const json_t *given = NULL;

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const json_t *value = json_object_get(action, kinds[i].name);

        if (value && effect->action != FAULT_NONE) {
            return fault_wrong(error, "do: one of status, reset, hang, half_body, not_json, json");
        }
        if (value) {
            effect->action = kinds[i].action;
            effect->works = kinds[i].works;
            given = value;
        }
    }
    if (effect->action == FAULT_STATUS) {
        json_int_t status = json_integer_value(given);

        if (status < 200 || status > 599) {
            return fault_wrong(error, "do: status: from 200 to 599");
        }
        effect->status = (unsigned)status;
        effect->body = json_incref(json_object_get(action, "body"));
    } else if (effect->action == FAULT_RESET) {
        const char *when = json_string_value(given);

        if (!when || (strcmp(when, "before") != 0 && strcmp(when, "after") != 0)) {
            return fault_wrong(error, "do: reset: \"before\" or \"after\" the effect");
        }
        effect->works = strcmp(when, "after") == 0;
    } else if (effect->action == FAULT_JSON) {
        effect->body = json_incref((json_t *)given);
    } else if (given && !json_is_true(given)) {
        return fault_wrong(error, "do: hang, half_body, not_json: true");
    }
    return 0;
}

static int fault_read_effect(struct fault_effect *effect, const json_t *action, char **error) {
    const json_t *when = json_object_get(action, "effect");
    const json_t *saves = json_object_get(action, "save");

    if (when) {
        const char *text = json_string_value(when);

        if (!text || (strcmp(text, "none") != 0 && strcmp(text, "before") != 0)) {
            return fault_wrong(error, "do: effect: \"none\" or \"before\"");
        }
        effect->works = strcmp(text, "before") == 0;
    }
    if (effect->action == FAULT_HALF && !effect->works) {
        return fault_wrong(error, "do: half_body: half of what, if the effect is none?");
    }
    if (saves && (!json_is_boolean(saves) || effect->action != FAULT_STATUS)) {
        return fault_wrong(error, "do: save: true or false, beside a status");
    }
    /* Stripe saves what its endpoints answered once they began, 500 included. */
    effect->saves = effect->action == FAULT_STATUS && (saves ? json_is_true(saves) : effect->works);
    return 0;
}

static int fault_read_do(struct fault_rule *rule, const json_t *action, char **error) {
    static const char *const known[] = {"delay_ms", "status", "retry_after", "should_retry", "body", "effect", "save",
                                        "reset",    "hang",   "half_body",   "not_json",     "json", NULL};
    struct fault_effect *effect = &rule->effect;
    int r = fault_check_names(action, "do", known, error);

    if (r == 0) {
        r = fault_read_delay(rule, json_object_get(action, "delay_ms"), error);
    }
    if (r == 0) {
        r = fault_read_action(effect, action, error);
    }
    if (r == 0) {
        r = fault_read_effect(effect, action, error);
    }
    if (r == 0) {
        r = fault_read_text(action, "retry_after", effect->retry_after, sizeof effect->retry_after, error);
    }
    if (r == 0) {
        r = fault_read_text(action, "should_retry", effect->should_retry, sizeof effect->should_retry, error);
    }
    if (r == 0 && effect->action == FAULT_NONE && rule->delay == DELAY_NONE) {
        return fault_wrong(error, "do: nothing to do");
    }
    return r;
}

static int fault_read_match(const json_t *match, char **error) {
    static const char *const known[] = {"method", "path", "customer", "parameter", "key_contains", NULL};
    const char *key;
    json_t *value;
    int r = match ? fault_check_names(match, "match", known, error) : 0;

    if (r < 0) {
        return r;
    }
    json_object_foreach((json_t *)match, key, value) {
        if (!(strcmp(key, "parameter") == 0 ? json_is_object(value) : json_is_string(value))) {
            return fault_wrong(error, "match: %s: wrong type", key);
        }
    }
    json_object_foreach(json_object_get(match, "parameter"), key, value) {
        if (!json_is_string(value)) {
            return fault_wrong(error, "match: parameter: %s: not a string", key);
        }
    }
    return 0;
}

/* count, skip and probability, each of which may be left out or null. */
static int fault_read_numbers(struct fault_rule *rule, const json_t *given, char **error) {
    const json_t *count = json_object_get(given, "count");
    const json_t *skip = json_object_get(given, "skip");
    const json_t *probability = json_object_get(given, "probability");

    rule->left = json_is_integer(count) ? json_integer_value(count) : -1;
    rule->skip = json_integer_value(skip);
    rule->probability = json_is_number(probability) ? json_number_value(probability) : 1;
    if ((count && !json_is_null(count) && (!json_is_integer(count) || rule->left < 0)) ||
        (skip && !json_is_null(skip) && (!json_is_integer(skip) || rule->skip < 0))) {
        return fault_wrong(error, "fault: count, skip: numbers from 0");
    }
    if ((probability && !json_is_null(probability) && !json_is_number(probability)) || rule->probability < 0 ||
        rule->probability > 1) {
        return fault_wrong(error, "fault: probability: from 0 to 1");
    }
    return 0;
}

static void fault_rule_free(struct fault_rule *rule) {
    if (rule) {
        fault_effect_done(&rule->effect);
        json_decref(rule->text);
        free(rule);
    }
}

static int fault_read_rule(const json_t *given, struct fault_rule **out, char **error) {
    static const char *const known[] = {"match", "count", "skip", "probability", "do", NULL};
    int r = fault_check_names(given, "fault", known, error);

    if (r < 0) {
        return r;
    }
    struct fault_rule *rule = memory_get(sizeof *rule);

    rule->text = json_deep_copy(given);
    rule->match = json_object_get(rule->text, "match");
    r = fault_read_numbers(rule, given, error);
    if (r == 0) {
        r = fault_read_match(rule->match, error);
    }
    if (r == 0) {
        r = fault_read_do(rule, json_object_get(given, "do"), error);
    }
    if (r < 0) {
        fault_rule_free(rule);
        return r;
    }
    *out = rule;
    return 0;
}

static int faults_add_one(struct faults *faults, const json_t *given, json_t *ids, char **error) {
    struct fault_rule *rule = NULL;

    if (faults->count == FAULTS_MAX) {
        return fault_wrong(error, "at most %d rules", FAULTS_MAX);
    }
    int r = fault_read_rule(given, &rule, error);

    if (r < 0) {
        return r;
    }
    rule->number = ++faults->last;
    faults->rules[faults->count++] = rule;
    json_array_append_new(ids, json_integer((json_int_t)rule->number));
    return 0;
}

int faults_add(struct faults *faults, const json_t *rules, json_t **ids, char **error) {
    _cleanup_json_ json_t *numbers = json_array();
    _cleanup_json_ json_t *list = json_is_array(rules) ? json_incref((json_t *)rules) : json_pack("[O]", rules);
    size_t before = faults->count;
    size_t index;
    json_t *given;

    json_array_foreach(list, index, given) {
        if (faults_add_one(faults, given, numbers, error) < 0) {
            while (faults->count > before) {
                fault_rule_free(faults->rules[--faults->count]);
            }
            return -EINVAL;
        }
    }
    *ids = json_incref(numbers);
    return 0;
}

/* --- choosing --- */

static bool fault_matches(const struct fault_rule *rule, const char *method, const char *path, const char *key,
                          const struct form *form) {
    const char *wanted = json_string_value(json_object_get(rule->match, "method"));
    const char *name;
    json_t *value;

    if (wanted && strcmp(wanted, method) != 0) {
        return false;
    }
    wanted = json_string_value(json_object_get(rule->match, "path"));
    if (wanted && strncmp(wanted, path, strlen(wanted)) != 0) {
        return false;
    }
    wanted = json_string_value(json_object_get(rule->match, "key_contains"));
    if (wanted && (!key || !strstr(key, wanted))) {
        return false;
    }
    wanted = json_string_value(json_object_get(rule->match, "customer"));
    if (wanted && (!form_value(form, "customer") || strcmp(form_value(form, "customer"), wanted) != 0)) {
        return false;
    }
    json_object_foreach(json_object_get(rule->match, "parameter"), name, value) {
        const char *given = form_value(form, name);

        if (!given || strcmp(given, json_string_value(value)) != 0) {
            return false;
        }
    }
    return true;
}

/* Two uniform numbers make a normal one (Box and Muller). */
static double fault_normal(void) {
    return sqrt(-2 * log(1 - identifier_uniform())) * cos(2 * M_PI * identifier_uniform());
}

static double fault_delay(const struct fault_rule *rule) {
    double delay = rule->delay_first;

    if (rule->delay == DELAY_UNIFORM) {
        delay += (rule->delay_second - rule->delay_first) * identifier_uniform();
    } else if (rule->delay == DELAY_LOGNORMAL) {
        delay *= exp(rule->delay_second * fault_normal());
    }
    return fmin(delay, FAULT_DELAY_MAX);
}

static void fault_summarize(struct fault_effect *effect) {
    static const char *const names[] = {
        [FAULT_NONE] = "",          [FAULT_STATUS] = "status",     [FAULT_RESET] = "reset", [FAULT_HANG] = "hang",
        [FAULT_HALF] = "half_body", [FAULT_NOT_JSON] = "not_json", [FAULT_JSON] = "json",
    };
    char delay[16] = "";

    if (effect->delayed) {
        (void)snprintf(delay, sizeof delay, "delay %.0f", fmin(effect->delay, FAULT_DELAY_MAX));
    }
    if (effect->action == FAULT_STATUS) {
        (void)snprintf(effect->summary, sizeof effect->summary, "%s%sstatus %u", delay, *delay ? " " : "",
                       effect->status);
    } else {
        (void)snprintf(effect->summary, sizeof effect->summary, "%s%s%s", delay,
                       *delay && effect->action != FAULT_NONE ? " " : "", names[effect->action]);
    }
}

struct fault_effect faults_choose(struct faults *faults, const char *method, const char *path, const char *key,
                                  const struct form *form) {
    struct fault_effect effect = {0};

    for (size_t i = 0; i < faults->count && effect.action == FAULT_NONE; i++) {
        struct fault_rule *rule = faults->rules[i];

        if (rule->left == 0 || (effect.delayed && rule->effect.action == FAULT_NONE) ||
            !fault_matches(rule, method, path, key, form)) {
            continue;
        }
        rule->matched++;
        if (rule->skip > 0) {
            rule->skip--;
            continue;
        }
        if (rule->probability < 1 && identifier_uniform() >= rule->probability) {
            continue;
        }
        rule->applied++;
        rule->left -= rule->left > 0;
        bool delayed = rule->delay != DELAY_NONE || effect.delayed;
        double delay = rule->delay != DELAY_NONE ? fault_delay(rule) : effect.delay;

        effect = rule->effect;
        effect.rule = rule->number;
        effect.delayed = delayed;
        effect.delay = delay;
        fault_summarize(&effect);
    }
    json_incref(effect.body);
    return effect;
}

/* --- answering --- */

void fault_answer(const struct fault_effect *effect, struct answer *answer) {
    free(answer->body);
    answer->body = NULL;
    answer->replayed = false;
    if (effect->action == FAULT_NOT_JSON) {
        answer->status = 200;
        answer->body =
            memory_copy("<html><head><title>Welcome</title></head><body>Not what you asked for</body></html>");
        answer->content_type = "text/html";
        answer->code[0] = '\0';
    } else if (effect->body) {
        const char *code = json_string_value(json_object_get(json_object_get(effect->body, "error"), "code"));

        answer_json(answer, effect->action == FAULT_JSON ? 200 : effect->status, effect->body);
        (void)snprintf(answer->code, sizeof answer->code, "%s", code ? code : "");
    } else if (effect->status == 429) {
        answer_error(answer, 429, "invalid_request_error", "rate_limit", NULL,
                     "Request rate limit exceeded. You can learn more about rate limits here "
                     "https://stripe.com/docs/rate-limits.");
    } else if (effect->status == 409) {
        answer_error(answer, 409, "idempotency_error", "idempotency_key_in_use", NULL,
                     "There is currently another in-progress request using this Idempotent Key. Please try again "
                     "later.");
    } else if (effect->status >= 500) {
        answer_error(answer, effect->status, "api_error", NULL, NULL,
                     "Sorry! There was an error while talking to one of our backends. Support has been notified.");
    } else {
        answer_error(answer, effect->status, "invalid_request_error", NULL, NULL, "This request was made to fail.");
    }
    (void)snprintf(answer->retry_after, sizeof answer->retry_after, "%s", effect->retry_after);
    (void)snprintf(answer->should_retry, sizeof answer->should_retry, "%s", effect->should_retry);
}

json_t *faults_list(const struct faults *faults) {
    json_t *list = json_array();

    for (size_t i = 0; i < faults->count; i++) {
        const struct fault_rule *rule = faults->rules[i];
        json_t *shown = json_copy(rule->text);

        json_object_set_new(shown, "id", json_integer((json_int_t)rule->number));
        json_object_set_new(shown, "matched", json_integer((json_int_t)rule->matched));
        json_object_set_new(shown, "applied", json_integer((json_int_t)rule->applied));
        json_object_set_new(shown, "remaining", rule->left < 0 ? json_null() : json_integer(rule->left));
        json_array_append_new(list, shown);
    }
    return list;
}

void faults_clear(struct faults *faults) {
    while (faults->count > 0) {
        fault_rule_free(faults->rules[--faults->count]);
    }
}

void fault_effect_done(struct fault_effect *effect) {
    json_decref(effect->body);
    effect->body = NULL;
}
