/* form.c — application/x-www-form-urlencoded with Stripe's brackets. */
#include "portal/form.h"

#include <stdio.h>
#include <string.h>

#define UNRESERVED "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~" /* RFC 3986, section 2.3 */

static void append_encoded(struct text *form, const char *string, const char *plain) {
    for (;;) {
        size_t length = strspn(string, plain);
        text_append_bytes(form, string, length);
        string += length;
        if (*string == '\0')
            return;
        text_appendf(form, "%%%02X", (unsigned)(unsigned char)*string++);
    }
}

void form_add(struct text *form, const char *name, const char *value) {
    if (!value)
        return;
    if (form->length > 0)
        text_append(form, "&");
    append_encoded(form, name, UNRESERVED "[]");
    text_append(form, "=");
    append_encoded(form, value, UNRESERVED);
}

static void add_scalar(struct text *form, const char *name, const json_t *value) {
    char number[32];
    switch (json_typeof(value)) {
    case JSON_STRING:
        form_add(form, name, json_string_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        form_add(form, name, json_is_true(value) ? "true" : "false");
        break;
    case JSON_INTEGER:
        (void)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        form_add(form, name, number);
        break;
    default: /* null: not sent; no parameter of Stripe's portal is a real number */
        break;
    }
}

static void add_member(struct text *form, const char *name, const char *key, const json_t *value) {
    struct text nested = {0};
    text_appendf(&nested, "%s[%s]", name, key);
    AUTOFREE char *path = text_take(&nested);
    if (path)
        form_add_json(form, path, value);
    else
        form->failed = true;
}

void form_add_json(struct text *form, const char *name, const json_t *value) {
    const char *key;
    json_t *member;
    size_t index;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)value, key, member) {
            add_member(form, name, key, member);
        }
    } else if (json_is_array(value) && json_array_size(value) == 0) {
        form_add(form, name, ""); /* how a form says an empty list, which to Stripe is not a missing one */
    } else if (json_is_array(value)) {
        json_array_foreach(value, index, member) {
            char number[24];
            (void)snprintf(number, sizeof number, "%zu", index);
            add_member(form, name, number, member);
        }
    } else if (value)
        add_scalar(form, name, value);
}
