/* settings-text.c — the texts that settings are made of: kept and wiped, split, refused, compared. */
#include "settings-private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHOWN_MAX = 80, /* bytes of a wrong value that are shown */
    NAME_MAX_LENGTH = 64,
};

struct settings_text {
    struct settings_text *next;
    size_t size;
    max_align_t bytes[];
};

void *settings_allocate(struct settings *settings, size_t size) {
    struct settings_text *text = calloc(1, sizeof *text + size);
    if (!text)
        return NULL;
    text->size = size;
    text->next = settings->owner->texts;
    settings->owner->texts = text;
    return text->bytes;
}

char *settings_copy(struct settings *settings, const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = settings_allocate(settings, size);
    if (copy)
        memcpy(copy, text, size);
    return copy;
}

void settings_wipe_texts(struct settings *settings) {
    while (settings->owner->texts) {
        struct settings_text *text = settings->owner->texts;
        settings->owner->texts = text->next;
        explicit_bzero(text->bytes, text->size);
        free(text);
    }
}

/* What belongs to another setting, and was given to this one by mistake. */
static bool is_like_secret(const char *value) {
    return (strstr(value, "://") && strchr(value, '@')) || strstr(value, "sk_") || strstr(value, "rk_");
}

const char *settings_show_path(const char *path) {
    return path[0] != '/' && is_like_secret(path) ? "(not shown, as it looks like a secret)" : path;
}

int settings_refuse(const struct setting *setting, const char *value, FILE *errors) {
    if (!value)
        (void)fprintf(errors, "%s is not set: %s\n", setting->name, setting->right);
    else if (setting->secret || is_like_secret(value))
        (void)fprintf(errors, "%s is wrong: %s\n", setting->name, setting->right);
    else {
        size_t shown = strnlen(value, SHOWN_MAX);
        while (shown > 0 && ((unsigned char)value[shown] & 0xC0) == 0x80) /* not within a character of UTF-8 */
            shown--;
        (void)fprintf(errors, "%s is \"", setting->name);
        for (size_t i = 0; i < shown; i++) {
            unsigned char c = (unsigned char)value[i];
            if (c < ' ' || c == 0x7f)
                (void)fprintf(errors, "\\x%02x", c);
            else
                (void)putc(c, errors);
        }
        (void)fprintf(errors, "%s\": %s\n", value[shown] ? "…" : "", setting->right);
    }
    return -EINVAL;
}

static const char separators[] = ", \t\r\n";

char **settings_split(struct settings *settings, const char *value) {
    char *copy = settings_copy(settings, value);
    char **words = settings_allocate(settings, (strlen(value) / 2 + 2) * sizeof *words);
    if (!copy || !words)
        return NULL;
    size_t count = 0;
    char *rest = NULL;
    for (char *word = strtok_r(copy, separators, &rest); word; word = strtok_r(NULL, separators, &rest))
        words[count++] = word;
    words[count] = NULL;
    return words;
}

static size_t least_of(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Levenshtein's distance: how many letters must be put in, taken out or replaced. */
static size_t distance(const char *a, const char *b) {
    size_t row[NAME_MAX_LENGTH + 1];
    size_t width = strlen(b);
    assert(width <= NAME_MAX_LENGTH);
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < width; j++) {
            size_t above = row[j + 1];
            size_t replaced = diagonal + (a[i] != b[j]);
            row[j + 1] = least_of(replaced, least_of(above, row[j]) + 1);
            diagonal = above;
        }
    }
    return row[width];
}

const char *settings_nearest(const char *name) {
    const char *nearest = NULL;
    size_t least = strlen(name) / 3 + 1; /* farther away, it is another thing altogether */
    for (size_t i = 0; i < settings_count; i++) {
        size_t d = distance(name, settings_table[i].name);
        if (d < least) {
            least = d;
            nearest = settings_table[i].name;
        }
    }
    return nearest;
}
