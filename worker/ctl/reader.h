/* reader.h — the lines of a file or a pipe, one after the other, in bounded memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct reader {
    const char *name; /* borrowed; "-" is standard input */
    int fd;           /* -1: not open */
    bool regular;     /* a file: it never makes wait, and can be read twice */
    bool ended;
    size_t line; /* the number of the last line handed out, from 1 */
    char *buffer;
    size_t size, start, end;
};

/* Result: 0, or a negative errno; ended with reader_close(). */
int reader_open(struct reader *reader, const char *name);
void reader_close(struct reader *reader);

/* A regular file is to be read from its beginning by whoever opens it next. */
void reader_rewind(const struct reader *reader);

/* The next line without its end, valid until the next call. Waits for it where `wait`, until `stop` (ctl_stop_open(),
 * or -1) is readable. Result: 1; 0 at the end; -EAGAIN: none is there yet; -ECANCELED: stopped; -EMSGSIZE: a line is
 * too long; another negative errno. */
int reader_next(struct reader *reader, bool wait, int stop, char **text, size_t *length);
