/* json-text.c — JSON read with an allocator that remembers whether memory ran out, and written into a text that does.
 */
#include "json-text.h"

#include <errno.h>
#include <stdlib.h>

#include "portal/text.h"

/* jansson's allocator is one for the whole process and takes no argument of ours. */
static _Thread_local bool ran_out;

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (!memory)
        ran_out = true;
    return memory;
}

int json_text_read(const char *text, size_t length, size_t flags, json_t **ret, json_error_t *error) {
    json_set_alloc_funcs(allocate, free);
    ran_out = false;
    *ret = json_loadb(text, length, flags, error);
    if (*ret)
        return 0;
    return ran_out ? -ENOMEM : -EINVAL;
}

static int append(const char *bytes, size_t length, void *to) {
    text_append_bytes(to, bytes, length);
    return 0;
}

char *json_text_write(const json_t *json, size_t flags) {
    struct text text = {0};
    if (json_dump_callback(json, append, &text, flags) < 0)
        text.failed = true;
    return text_take(&text);
}

bool json_text_set(json_t *object, const char *name, const char *value) {
    return !value || json_object_set_new(object, name, json_string(value)) == 0;
}
