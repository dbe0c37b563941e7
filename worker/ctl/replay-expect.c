/* replay-expect.c — what was expected, and what came. */
#include "replay-expect.h"

#include <regex.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool matches(const char *pattern, const char *text) {
    struct text whole = {0};
    regex_t regex;
    text_appendf(&whole, "^(%s)$", pattern);
    AUTOFREE char *anchored = text_take(&whole);
    if (!anchored || regcomp(&regex, anchored, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    bool match = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return match;
}

/* Numbers are equal whatever they are written like; true is no number. */
static bool equal(const json_t *expected, const json_t *actual) {
    if (json_is_number(expected) && json_is_number(actual))
        return json_is_integer(expected) && json_is_integer(actual)
                   ? json_integer_value(expected) == json_integer_value(actual)
                   : json_number_value(expected) == json_number_value(actual);
    return actual && json_equal((json_t *)expected, (json_t *)actual);
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text);
    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

/* A value for a person, but for a portal URL in it, which is nobody else's business: the caller's to free. */
static char *shown(const json_t *value, const char *where) {
    static const char hidden[] = "(a URL)";
    json_t *copy = json_deep_copy(value);
    json_t *session = ends_with(where, ".session") ? copy : json_object_get(copy, "session");
    const json_t *url = json_object_get(session, "url");
    char *text = NULL;
    if (json_is_string(copy) && json_string_value(copy)[0] != '~' && ends_with(where, ".session.url"))
        text = strdup(hidden);
    else if (copy && (!json_is_string(url) || json_object_set_new(session, "url", json_string(hidden)) == 0))
        text = json_dumps(copy, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(copy);
    return text;
}

void replay_differences(const json_t *expected, const json_t *actual, const char *where, struct text *found) {
    const char *text = json_string_value(expected);
    const char *name;
    const json_t *value;
    if (json_is_object(expected) && json_is_object(actual)) {
        json_object_foreach((json_t *)expected, name, value) {
            struct text path = {0};
            text_appendf(&path, "%s.%s", where, name);
            AUTOFREE char *deeper = text_take(&path);
            replay_differences(value, json_object_get(actual, name), deeper ? deeper : where, found);
        }
        return;
    }
    if (text && text[0] == '~' ? json_is_string(actual) && matches(text + 1, json_string_value(actual))
                               : equal(expected, actual))
        return;
    AUTOFREE char *wanted = shown(expected, where);
    AUTOFREE char *got = shown(actual, where);
    text_appendf(found, "%s%s is %s, expected %s", found->length > 0 ? "; " : "", where, got ? got : "absent",
                 wanted ? wanted : "?");
}
