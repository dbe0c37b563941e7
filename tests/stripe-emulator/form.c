/* Forms as Stripe takes them: percent-encoded fields whose names carry brackets, a[b][0]=c. */
#include "form.h"

#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int form_hexadecimal(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

int form_decode(char *text, int plus_is_space) {
    char *out = text;

    for (const char *in = text; *in; in++) {
        if (*in == '+' && plus_is_space) {
            *out++ = ' ';
        } else if (*in == '%' && form_hexadecimal(in[1]) >= 0 && form_hexadecimal(in[2]) >= 0) {
            char byte = (char)(form_hexadecimal(in[1]) * 16 + form_hexadecimal(in[2]));

            if (byte == '\0') {
                return -EILSEQ;
            }
            *out++ = byte;
            in += 2;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
    return 0;
}

static int form_is_utf8(const char *text) {
    _cleanup_json_ json_t *string = json_string(text);

    return string != NULL;
}

int form_parse(struct form *form, const char *text) {
    char *rest = NULL;
    size_t capacity = 0;

    *form = (struct form){.text = memory_copy(text)};
    for (char *part = strtok_r(form->text, "&", &rest); part; part = strtok_r(NULL, "&", &rest)) {
        char *equals = strchr(part, '=');
        static char empty[1];
        struct form_field field = {.name = part, .value = equals ? equals + 1 : empty};

        if (equals) {
            *equals = '\0';
        }
        if (form->count >= FORM_FIELDS_MAX) {
            return -E2BIG;
        }
        if (form_decode(field.name, 1) < 0 || (equals && form_decode(field.value, 1) < 0)) {
            return -EILSEQ;
        }
        if (!form_is_utf8(field.name) || !form_is_utf8(field.value)) {
            return -EILSEQ;
        }
        if (form->count == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            form->fields = memory_resize(form->fields, capacity * sizeof *form->fields);
        }
        form->fields[form->count++] = field;
    }
    return 0;
}

void form_done(struct form *form) {
    free(form->text);
    free(form->fields);
    *form = (struct form){0};
}

const char *form_value(const struct form *form, const char *name) {
    for (size_t i = form->count; i > 0; i--) {
        if (strcmp(form->fields[i - 1].name, name) == 0) {
            return form->fields[i - 1].value;
        }
    }
    return NULL;
}

json_t *form_flat(const struct form *form) {
    json_t *flat = json_object();

    for (size_t i = 0; i < form->count; i++) {
        const char *name = form->fields[i].name;
        json_t *value = json_string(form->fields[i].value);
        json_t *old = json_object_get(flat, name);

        if (json_is_array(old)) {
            json_array_append_new(old, value);
        } else {
            json_object_set_new(flat, name, old ? json_pack("[O, o]", old, value) : value);
        }
    }
    return flat;
}

/* Splits a[b][] into "a", "b", "". Works on a copy, since error messages want the name whole. */
static int form_split(char *name, const char *parts[static FORM_DEPTH_MAX], size_t *count) {
    char *bracket = strchr(name, '[');

    parts[0] = name;
    *count = 1;
    if (bracket) {
        *bracket = '\0';
    }
    while (bracket) {
        char *end = strchr(bracket + 1, ']');

        if (!end || *count == FORM_DEPTH_MAX || (end[1] != '\0' && end[1] != '[')) {
            return -EINVAL;
        }
        *end = '\0';
        parts[(*count)++] = bracket + 1;
        bracket = end[1] == '[' ? end + 1 : NULL;
        if (bracket) {
            *bracket = '\0';
        }
    }
    return *parts[0] ? 0 : -EINVAL;
}

/* Which element a[] means: a new one, or in a[][x]=1&a[][y]=2 the last, as long as it has no `next` yet. */
static void form_index(json_t *list, const char *next, char index[static 24]) {
    size_t size = json_object_size(list);

    if (size > 0 && next && *next) {
        (void)snprintf(index, 24, "%zu", size - 1);
        json_t *last = json_object_get(list, index);

        if (json_is_object(last) && !json_object_get(last, next)) {
            return;
        }
    }
    (void)snprintf(index, 24, "%zu", size);
}

static int form_put(json_t *tree, const char *const *parts, size_t count, const char *value) {
    json_t *node = tree;

    for (size_t i = 0; i < count; i++) {
        const char *key = parts[i];
        char index[24];

        if (i > 0 && !*key) {
            form_index(node, i + 1 < count ? parts[i + 1] : NULL, index);
            key = index;
        }
        json_t *child = json_object_get(node, key);

        if (i + 1 == count) {
            if (json_is_object(child)) {
                return -EINVAL;
            }
            return json_object_set_new(node, key, json_string(value)) < 0 ? -EINVAL : 0;
        }
        if (child && !json_is_object(child)) {
            return -EINVAL;
        }
        if (!child) {
            child = json_object();
            json_object_set_new(node, key, child);
        }
        node = child;
    }
    return 0;
}

int form_tree(const struct form *form, json_t **tree, const char **bad) {
    _cleanup_json_ json_t *root = json_object();

    for (size_t i = 0; i < form->count; i++) {
        const char *parts[FORM_DEPTH_MAX];
        _cleanup_free_ char *name = memory_copy(form->fields[i].name);
        size_t count;

        if (form_split(name, parts, &count) < 0 || form_put(root, parts, count, form->fields[i].value) < 0) {
            *bad = form->fields[i].name;
            return -EINVAL;
        }
    }
    *tree = json_incref(root);
    return 0;
}
