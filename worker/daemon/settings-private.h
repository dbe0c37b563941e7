/* settings-private.h — what the files of the settings share: one row of their table, and the way a value is read. */
#pragma once

#include "daemon/settings.h"

/* One setting. `read` checks the text and puts it where it belongs. */
struct setting {
    const char *name;
    const char *standard; /* used where it is not set; NULL: it has to be set; "": nothing is used */
    int (*read)(struct settings *settings, const struct setting *setting, const char *value, FILE *errors);
    bool secret;
    size_t offset; /* into struct settings, of what `read` fills */
    uint32_t least;
    uint32_t most;
    const char *right;   /* what would be right: "must be …" */
    const char *meaning; /* for --help */
};

extern const struct setting settings_table[];
extern const size_t settings_count;

/* ---- settings-text.c: memory, words, lists ---- */

struct settings_owner {
    struct settings_text *texts;
    const char *key_file;      /* where the Stripe key was read from, or NULL */
    const char *features_file; /* or NULL */
    struct features *features; /* in use */
    struct features *features_before;
};

/* Memory that lives as long as the settings and is wiped before it is freed; NULL without memory. */
void *settings_allocate(struct settings *settings, size_t size);
char *settings_copy(struct settings *settings, const char *text);
void settings_wipe_texts(struct settings *settings);

/* Says that `value` (NULL: nothing) is not right for the setting. Control characters are escaped, long values cut, and
 * secrets left out. Always -EINVAL. */
int settings_refuse(const struct setting *setting, const char *value, FILE *errors);

/* The path, or other words where a secret seems to have been given for one. */
const char *settings_show_path(const char *path);

/* Whether the file that a setting names can be read. Result: 0, or -EINVAL with a line written. */
int settings_check_file(const char *name, const char *path, FILE *errors);

/* Splits at commas and spaces. Result: the words, NULL at the end, the settings' own; NULL without memory. */
char **settings_split(struct settings *settings, const char *value);

/* The name in the table that is most like `name`, if any is alike at all; else NULL. */
const char *settings_nearest(const char *name);

/* ---- settings-read.c: the kinds of values ---- */

int settings_read_amqp_urls(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_database_url(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_secret_key(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_web_url(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_version(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_file(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_path(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_number(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_name(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_words(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_policy(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_topology(struct settings *, const struct setting *, const char *, FILE *);
int settings_read_level(struct settings *, const struct setting *, const char *, FILE *);

/* Whether a Stripe key is one of live mode. */
bool settings_key_is_live(const char *key);
