/* Memory that is either had or ends the program. */
#include "memory.h"

#include <stdio.h>
#include <string.h>

static _Noreturn void memory_spent(void) {
    fputs("stripe-emulator: out of memory\n", stderr);
    abort();
}

void *memory_get(size_t size) {
    void *memory = calloc(1, size > 0 ? size : 1);

    if (!memory) {
        memory_spent();
    }
    return memory;
}

void *memory_resize(void *old, size_t size) {
    void *memory = realloc(old, size > 0 ? size : 1);

    if (!memory) {
        memory_spent();
    }
    return memory;
}

char *memory_copy(const char *text) {
    char *copy = strdup(text);

    if (!copy) {
        memory_spent();
    }
    return copy;
}

char *memory_vformat(const char *format, va_list arguments) {
    char *text = NULL;

    if (vasprintf(&text, format, arguments) < 0) {
        memory_spent();
    }
    return text;
}

char *memory_format(const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    char *text = memory_vformat(format, arguments);
    va_end(arguments);
    return text;
}

void memory_serve_jansson(void) {
    json_set_alloc_funcs(memory_get, free);
    /* Seeded before there are threads, as jansson asks for. */
    json_object_seed(0);
}
