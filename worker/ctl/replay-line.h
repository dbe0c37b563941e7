/* replay-line.h — one line of a replay file (tests/replay/README.md describes the form): pure functions on text. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { REPLAY_LINE_MAX = 1024 * 1024 }; /* bytes of a line, its end not counted */

/* Freed with replay_line_clear(). */
struct replay_line {
    json_t *json; /* the whole line */
    char *body;   /* as it is to be sent */
    size_t body_length;
    const json_t *properties; /* checked with amqp_json_check(); NULL: none */
    const json_t *expect;     /* NULL: nothing */
    const char *name;         /* NULL: it has none */
    bool prepared;            /* it wants something put right before it is sent, by whoever runs the tests */
};

/* Reads a line without its end. `run` is put in the place of each "{run}" (NULL: nothing is). Result: 1; 0 where the
 * line is empty or a remark; -EINVAL with what is wrong in `error`; -ENOMEM. The line is to be cleared in any case. */
int replay_line_read(struct replay_line *line, const char *text, size_t length, const char *run, char *error,
                     size_t error_size);
void replay_line_clear(struct replay_line *line);

/* Makes the line of a body and properties (taken over), without its end: the caller's to free; NULL without memory.
 * URLs in both are cut after their host, as what follows may be a credential. `remark` (taken over, or NULL) is an
 * object whose members, called x-…, are put beside. */
char *replay_line_write(const char *body, size_t length, json_t *properties, json_t *remark);

/* The text with all URLs cut after their host: the caller's to free, NUL-terminated; NULL without memory. */
char *replay_redact(const char *text, size_t length, size_t *ret_length);

/* Makes properties that were recorded fit to be sent again by another: what only the first sender could use (where the
 * answer went, when it was sent, when it expired) stays as a remark. */
void replay_tidy(json_t *properties);
