/* reader.c — lines of a file or a pipe. */
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "portalctl.h"
#include "replay-line.h"

enum { BUFFER_FIRST = 64 * 1024, BUFFER_MAX = REPLAY_LINE_MAX + 2 };

int reader_open(struct reader *reader, const char *name) {
    struct stat status;
    *reader = (struct reader){.name = name, .fd = -1};
    reader->fd = strcmp(name, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(name, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0)
        return -errno;
    reader->buffer = malloc(BUFFER_FIRST);
    int r = !reader->buffer ? -ENOMEM : fstat(reader->fd, &status) < 0 ? -errno : S_ISDIR(status.st_mode) ? -EISDIR : 0;
    if (r < 0) {
        reader_close(reader);
        return r;
    }
    reader->size = BUFFER_FIRST;
    reader->regular = S_ISREG(status.st_mode) && lseek(reader->fd, 0, SEEK_CUR) == 0;
    return 0;
}

void reader_close(struct reader *reader) {
    if (reader->fd >= 0)
        (void)close(reader->fd);
    free(reader->buffer);
    *reader = (struct reader){.fd = -1};
}

void reader_rewind(const struct reader *reader) {
    if (reader->regular)
        (void)lseek(reader->fd, 0, SEEK_SET); /* which it could before */
}

/* Room behind what is kept. */
static int make_room(struct reader *reader) {
    memmove(reader->buffer, reader->buffer + reader->start, reader->end - reader->start);
    reader->end -= reader->start;
    reader->start = 0;
    if (reader->end < reader->size)
        return 0;
    if (reader->size == BUFFER_MAX)
        return -EMSGSIZE;
    size_t size = reader->size * 2 < BUFFER_MAX ? reader->size * 2 : BUFFER_MAX;
    char *larger = realloc(reader->buffer, size);
    if (!larger)
        return -ENOMEM;
    reader->buffer = larger;
    reader->size = size;
    return 0;
}

static int fill(struct reader *reader, bool wait, int stop) {
    struct pollfd pollers[] = {{.fd = reader->fd, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
    int r = make_room(reader);
    if (r < 0)
        return r;
    if (!reader->regular) {
        if (poll(pollers, 2, wait ? -1 : 0) < 0 && errno != EINTR)
            return -errno;
        if (pollers[1].revents)
            return -ECANCELED;
        if (!pollers[0].revents)
            return -EAGAIN;
    }
    ssize_t size = read(reader->fd, reader->buffer + reader->end, reader->size - reader->end);
    if (size < 0)
        return errno == EINTR ? 0 : -errno;
    reader->end += (size_t)size;
    reader->ended = size == 0;
    return 0;
}

int reader_next(struct reader *reader, bool wait, int stop, char **text, size_t *length) {
    size_t searched = 0;
    for (;;) {
        char *from = reader->buffer + reader->start;
        size_t kept = reader->end - reader->start;
        char *end = memchr(from + searched, '\n', kept - searched);
        if (end || (reader->ended && kept > 0)) {
            *text = from;
            *length = end ? (size_t)(end - from) : kept;
            reader->start += *length + (end != NULL);
            reader->line++;
            return *length > REPLAY_LINE_MAX ? -EMSGSIZE : 1;
        }
        if (reader->ended)
            return 0;
        searched = kept;
        int r = fill(reader, wait, stop);
        if (r == -EMSGSIZE)
            reader->line++;
        if (r < 0)
            return r;
    }
}
