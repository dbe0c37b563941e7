/* Checks a form against a table of parameters, with Stripe's errors, and gives the values their types. */
#include "schema.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    STRING_MAX = 5000,        /* portal-api.json's maxLength for what it gives no other */
    METADATA_KEYS_MAX = 50,   /* docs.stripe.com/api/metadata */
    METADATA_KEY_MAX = 40,    /* likewise */
    METADATA_VALUE_MAX = 500, /* likewise */
    NAME_MAX_SIZE = 512,      /* of a parameter's whole name; longer ones are cut in messages */
};

/* What one value is called, while the check goes down the tree. */
struct name {
    char text[NAME_MAX_SIZE];
};

static struct name schema_name(const char *prefix, const char *key) {
    struct name name;

    (void)snprintf(name.text, sizeof name.text, *prefix ? "%s[%s]" : "%s%s", prefix, key);
    return name;
}

static size_t schema_characters(const char *text) {
    size_t count = 0;

    for (; *text; text++) {
        count += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return count;
}

static int schema_value(const struct parameter *parameter, const char *name, const json_t *value, json_t **typed,
                        struct answer *answer);

static int schema_empty(const char *name, struct answer *answer) {
    return answer_invalid(answer, "parameter_invalid_empty", name,
                          "You passed an empty string for '%s'. We assume empty values are an attempt to unset a "
                          "parameter; however '%s' cannot be unset. You should remove '%s' from your request or supply "
                          "a non-empty value.",
                          name, name, name);
}

static int schema_string(const struct parameter *parameter, const char *name, const char *text, json_t **typed,
                         struct answer *answer) {
    size_t most = parameter->maximum ? (size_t)parameter->maximum : STRING_MAX;

    if (schema_characters(text) > most) {
        /* Stripe shows both ends of what is too long. Cutting within a character would not be UTF-8, so only ASCII is
         * shown. */
        bool ascii = schema_characters(text) == strlen(text);

        return answer_invalid(answer, NULL, name, "Invalid string: %.10s...%s; must be at most %zu characters",
                              ascii ? text : "", ascii ? text + strlen(text) - 5 : "", most);
    }
    if (parameter->kind == PARAMETER_URL) {
        const char *host = strncmp(text, "https://", 8) == 0  ? text + 8
                           : strncmp(text, "http://", 7) == 0 ? text + 7
                                                              : "";

        if (!*host || strchr("/?#:@", *host) || strpbrk(text, " \t\r\n\"<>\\^`{|}")) {
            return answer_invalid(answer, "url_invalid", name, "Not a valid URL");
        }
    }
    *typed = json_string(text);
    return 0;
}

static int schema_enum(const struct parameter *parameter, const char *name, const char *text, json_t **typed,
                       struct answer *answer) {
    _cleanup_free_ char *list = NULL;

    for (size_t i = 0; parameter->choices[i]; i++) {
        if (strcmp(parameter->choices[i], text) == 0) {
            *typed = json_string(text);
            return 0;
        }
    }
    for (size_t i = 0; parameter->choices[i]; i++) {
        bool last = i > 0 && !parameter->choices[i + 1];
        const char *comma = i == 0 ? "" : !last ? ", " : i == 1 ? " or " : ", or ";
        char *longer = memory_format("%s%s%s", list ? list : "", comma, parameter->choices[i]);

        free(list);
        list = longer;
    }
    return answer_invalid(answer, NULL, name, "Invalid %s: must be one of %s", name, list);
}

static int schema_boolean(const char *name, const char *text, json_t **typed, struct answer *answer) {
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
        *typed = json_boolean(text[0] == 't');
        return 0;
    }
    return answer_invalid(answer, NULL, name, "Invalid boolean: %s", text);
}

static int schema_integer(const struct parameter *parameter, const char *name, const char *text, json_t **typed,
                          struct answer *answer) {
    char *end = NULL;

    errno = 0;
    long long number = strtoll(text, &end, 10);

    if (errno != 0 || *end || !strchr("-0123456789", text[0])) {
        return answer_invalid(answer, "parameter_invalid_integer", name, "Invalid integer: %s", text);
    }
    if (parameter->minimum != parameter->maximum && number < parameter->minimum) {
        return answer_invalid(answer, "parameter_invalid_integer", name,
                              "This value must be greater than or equal to %lld.", (long long)parameter->minimum);
    }
    if (parameter->minimum != parameter->maximum && number > parameter->maximum) {
        return answer_invalid(answer, "parameter_invalid_integer", name,
                              "This value must be less than or equal to %lld.", (long long)parameter->maximum);
    }
    *typed = json_integer(number);
    return 0;
}

static int schema_unknown(const struct parameter *fields, const char *prefix, const json_t *tree,
                          struct answer *answer) {
    _cleanup_free_ char *list = NULL;
    struct name first = {{0}};
    size_t count = 0;
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)tree, key, value) {
        const struct parameter *known = fields;

        while (known->name && strcmp(known->name, key) != 0) {
            known++;
        }
        if (!known->name) {
            struct name name = schema_name(prefix, key);
            char *longer = memory_format("%s%s%s", list ? list : "", list ? ", " : "", name.text);

            free(list);
            list = longer;
            first = count++ == 0 ? name : first;
        }
    }
    if (count == 0) {
        return 0;
    }
    return answer_invalid(answer, "parameter_unknown", first.text, "Received unknown parameter%s: %s",
                          count > 1 ? "s" : "", list);
}

static int schema_hash(const struct parameter *fields, const char *prefix, const json_t *tree, json_t **typed,
                       struct answer *answer) {
    _cleanup_json_ json_t *hash = json_object();

    if (!json_is_object(tree)) {
        return answer_invalid(answer, NULL, prefix, "Invalid object");
    }
    int r = schema_unknown(fields, prefix, tree, answer);

    if (r < 0) {
        return r;
    }
    for (const struct parameter *field = fields; field->name; field++) {
        struct name name = schema_name(prefix, field->name);

        if (field->required && !json_object_get(tree, field->name)) {
            return answer_invalid(answer, "parameter_missing", name.text, "Missing required param: %s.", name.text);
        }
    }
    for (const struct parameter *field = fields; field->name; field++) {
        struct name name = schema_name(prefix, field->name);
        const json_t *given = json_object_get(tree, field->name);
        json_t *value = NULL;

        if (!given) {
            continue;
        }
        r = schema_value(field, name.text, given, &value, answer);
        if (r < 0) {
            return r;
        }
        json_object_set_new(hash, field->name, value);
    }
    *typed = json_incref(hash);
    return 0;
}

static int schema_list(const struct parameter *parameter, const char *prefix, const json_t *tree, json_t **typed,
                       struct answer *answer) {
    _cleanup_json_ json_t *list = json_array();
    size_t left = json_object_size(tree);

    if (!json_is_object(tree)) {
        return answer_invalid(answer, NULL, prefix, "Invalid array");
    }
    if (parameter->maximum && left > (size_t)parameter->maximum) {
        return answer_invalid(answer, NULL, prefix, "Invalid array: %s can have at most %lld entries", prefix,
                              (long long)parameter->maximum);
    }
    /* Entries come in the order of their indexes, gaps allowed; so count up until all are found. */
    for (unsigned index = 0; left > 0; index++) {
        char key[16];
        json_t *value = NULL;

        (void)snprintf(key, sizeof key, "%u", index);
        const json_t *given = json_object_get(tree, key);

        if (!given && index > 10000) {
            return answer_invalid(answer, NULL, prefix, "Invalid array");
        }
        if (!given) {
            continue;
        }
        struct name name = schema_name(prefix, key);
        int r = schema_value(parameter->fields, name.text, given, &value, answer);

        if (r < 0) {
            return r;
        }
        json_array_append_new(list, value);
        left--;
    }
    *typed = json_incref(list);
    return 0;
}

static int schema_metadata(const char *prefix, const json_t *tree, json_t **typed, struct answer *answer) {
    const char *key;
    json_t *value;

    if (!json_is_object(tree)) {
        return answer_invalid(answer, NULL, prefix, "Invalid object");
    }
    if (json_object_size(tree) > METADATA_KEYS_MAX) {
        return answer_invalid(answer, NULL, prefix, "Metadata can have up to %d keys, but you passed in %zu.",
                              METADATA_KEYS_MAX, json_object_size(tree));
    }
    json_object_foreach((json_t *)tree, key, value) {
        if (!json_is_string(value)) {
            return answer_invalid(answer, NULL, schema_name(prefix, key).text, "Invalid string: %s", key);
        }
        if (schema_characters(key) > METADATA_KEY_MAX) {
            return answer_invalid(answer, NULL, prefix,
                                  "Metadata keys can have up to %d characters, but you passed in a key that is %zu "
                                  "characters. Invalid key: %s",
                                  METADATA_KEY_MAX, schema_characters(key), key);
        }
        if (schema_characters(json_string_value(value)) > METADATA_VALUE_MAX) {
            return answer_invalid(answer, NULL, schema_name(prefix, key).text,
                                  "Metadata values can have up to %d characters, but you passed in a value that is %zu "
                                  "characters. Invalid value: %s",
                                  METADATA_VALUE_MAX, schema_characters(json_string_value(value)),
                                  json_string_value(value));
        }
    }
    *typed = json_deep_copy(tree);
    return 0;
}

static int schema_value(const struct parameter *parameter, const char *name, const json_t *value, json_t **typed,
                        struct answer *answer) {
    const char *text = json_string_value(value);

    if (text && !*text) {
        if (!parameter->unset) {
            return schema_empty(name, answer);
        }
        *typed = json_null();
        return 0;
    }
    switch (parameter->kind) {
    case PARAMETER_HASH:
        return schema_hash(parameter->fields, name, value, typed, answer);
    case PARAMETER_LIST:
        return schema_list(parameter, name, value, typed, answer);
    case PARAMETER_METADATA:
        return schema_metadata(name, value, typed, answer);
    case PARAMETER_RANGE:
        if (!text) {
            return schema_hash(parameter->fields, name, value, typed, answer);
        }
        return schema_integer(parameter, name, text, typed, answer);
    case PARAMETER_BOOLEAN:
        return text ? schema_boolean(name, text, typed, answer)
                    : answer_invalid(answer, NULL, name, "Invalid boolean: a hash was given");
    case PARAMETER_INTEGER:
        return text ? schema_integer(parameter, name, text, typed, answer)
                    : answer_invalid(answer, "parameter_invalid_integer", name, "Invalid integer: a hash was given");
    case PARAMETER_ENUM:
        return text ? schema_enum(parameter, name, text, typed, answer)
                    : answer_invalid(answer, NULL, name, "Invalid string: a hash was given");
    case PARAMETER_STRING:
    case PARAMETER_URL:
        break;
    }
    return text ? schema_string(parameter, name, text, typed, answer)
                : answer_invalid(answer, NULL, name, "Invalid string: a hash was given");
}

int schema_check(const struct parameter *fields, const json_t *tree, json_t **typed, struct answer *answer) {
    return schema_hash(fields, "", tree, typed, answer);
}
