/* Forms as Stripe takes them: percent-encoded fields whose names carry brackets, a[b][0]=c. */
#pragma once

#include <jansson.h>
#include <stddef.h>

enum {
    FORM_FIELDS_MAX = 5000, /* fields in one form */
    FORM_DEPTH_MAX = 10,    /* brackets in one name */
};

struct form_field {
    char *name;
    char *value;
};

struct form {
    char *text; /* what names and values point into */
    struct form_field *fields;
    size_t count;
};

/* Splits and decodes `text` (a query string, a body, or both joined with '&'). The form is to be ended with form_done,
 * whatever the result. 0, -E2BIG for too many fields, -EILSEQ for a NUL or for what is not UTF-8. */
int form_parse(struct form *form, const char *text);
void form_done(struct form *form);

/* The value of the last field of that name (brackets and all), or NULL. It belongs to the form. */
const char *form_value(const struct form *form, const char *name);

/* The fields by their full names, as a flat object of strings; of an array of them, where a name comes again. The
 * caller owns it. */
json_t *form_flat(const struct form *form);

/* The fields as nested objects whose leaves are strings; a[] counts up from 0. The caller owns it. 0, or -EINVAL where
 * a name is malformed or is used both as a value and as a hash; *bad (the form's) then names it. */
int form_tree(const struct form *form, json_t **tree, const char **bad);

/* Decodes %XX (and '+', if asked to) in place. 0 or -EILSEQ for a NUL. */
int form_decode(char *text, int plus_is_space);
