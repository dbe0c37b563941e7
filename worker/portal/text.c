/* text.c — text that grows. */
#include "portal/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static bool reserve(struct text *text, size_t more) {
    if (text->failed)
        return false;
    if (text->data && more < text->size - text->length)
        return true;
    size_t size = text->size > 0 ? text->size : 128;
    while (size - text->length <= more)
        size *= 2;
    char *data = realloc(text->data, size);
    if (!data) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->size = size;
    return true;
}

void text_append_bytes(struct text *text, const char *bytes, size_t length) {
    if (!reserve(text, length))
        return;
    memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void text_append(struct text *text, const char *string) {
    text_append_bytes(text, string, strlen(string));
}

/* Written at once where there is room for it. */
void text_appendf(struct text *text, const char *format, ...) {
    va_list arguments;
    size_t room = text->failed ? 0 : text->size - text->length;
    va_start(arguments, format);
    int length = vsnprintf(room > 0 ? text->data + text->length : NULL, room, format, arguments);
    va_end(arguments);
    if (length < 0)
        text->failed = true;
    if (length < 0 || !reserve(text, (size_t)length))
        return;
    if ((size_t)length >= room) {
        va_start(arguments, format);
        (void)vsnprintf(text->data + text->length, text->size - text->length, format, arguments);
        va_end(arguments);
    }
    text->length += (size_t)length;
}

char *text_take(struct text *text) {
    if (!text->failed && !text->data)
        text_append(text, "");
    char *data = NULL;
    if (text->failed)
        free(text->data);
    else
        data = text->data;
    *text = (struct text){0};
    return data;
}

void text_clear(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

/* The length of the UTF-8 sequence that begins here; 0: none does. */
static size_t sequence(const unsigned char *c) {
    if (c[0] < 0x80)
        return 1;
    size_t length = c[0] >= 0xc2 && c[0] <= 0xdf ? 2 : (c[0] & 0xf0) == 0xe0 ? 3 : c[0] >= 0xf0 && c[0] <= 0xf4 ? 4 : 0;
    for (size_t i = 1; i < length; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    /* overlong forms, surrogates, what is beyond U+10FFFF */
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
        (c[0] == 0xf4 && c[1] > 0x8f))
        return 0;
    return length;
}

void text_make_utf8(char *string) {
    while (*string != '\0') {
        size_t length = sequence((const unsigned char *)string);
        if (length == 0)
            *string = '?';
        string += length > 0 ? length : 1;
    }
}
