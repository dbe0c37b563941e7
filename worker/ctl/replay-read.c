/* replay-read.c — the lines of all files of a replay. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "portalctl.h"
#include "replay.h"

enum { COMPLAINTS_MAX = 20 };

int replay_complain(struct replay *replay, int error, const char *what) {
    const char *name = strcmp(replay->reader.name, "-") == 0 ? "standard input" : replay->reader.name;
    progress_clear(&replay->progress);
    if (error == -EINVAL)
        return ctl_complain(CTL_BAD_FILE, NULL, "%s:%zu: %s", name, replay->reader.line, what);
    if (error == -EMSGSIZE)
        return ctl_complain(CTL_BAD_FILE, NULL, "%s:%zu: the line is longer than 1 MiB", name, replay->reader.line);
    return ctl_complain(CTL_NO_FILE, NULL, "%s: %s", name, strerror(-error));
}

static int open_file(struct replay *replay, size_t file) {
    int r = reader_open(&replay->reader, replay->files[file]);
    if (r < 0) {
        replay->reader.name = replay->files[file];
        replay->status = replay_complain(replay, r, NULL);
    }
    replay->file = file;
    return r < 0 ? -EINVAL : 0;
}

/* ---- before ---- */

static void scan_line(struct replay *replay, const struct replay_line *line) {
    const json_t *same_as = json_object_get(line->expect, "same_as");
    replay->total += replay->file > 0 || replay->reader.line >= replay->options.from;
    replay->prepared |= line->prepared;
    if (same_as)
        (void)json_object_set_new(replay->wanted, json_string_value(same_as), json_true());
}

/* Result: the number of wrong lines. */
static unsigned scan_file(struct replay *replay) {
    char error[512];
    unsigned wrong = 0;
    char *text;
    size_t length;
    int r;
    while (wrong < COMPLAINTS_MAX && (r = reader_next(&replay->reader, true, -1, &text, &length)) != 0) {
        struct replay_line line = {0};
        if (r > 0)
            r = replay_line_read(&line, text, length, replay->options.run, error, sizeof error);
        if (r > 0)
            scan_line(replay, &line);
        replay_line_clear(&line);
        if (r >= 0)
            continue;
        replay->status = replay_complain(replay, r, error);
        wrong++;
        if (r != -EINVAL)
            break;
    }
    return wrong;
}

int replay_scan(struct replay *replay) {
    unsigned wrong = 0;
    bool all = true;
    for (size_t i = 0; replay->files[i]; i++) {
        if (open_file(replay, i) < 0)
            return replay->status;
        if (replay->reader.regular)
            wrong += scan_file(replay);
        else
            all = false;
        reader_rewind(&replay->reader); /* standard input is opened only once */
        reader_close(&replay->reader);
    }
    if (wrong > 0)
        return ctl_complain(
            replay->status, "Nothing was sent. tests/replay/README.md and portalctl(1) describe the form.",
            "%s%u line%s wrong", wrong >= COMPLAINTS_MAX ? "at least " : "", wrong, wrong == 1 ? " is" : "s are");
    if (!all) {
        json_decref(replay->wanted);
        replay->wanted = NULL;
        replay->total = 0;
    }
    return 0;
}

/* ---- while sending ---- */

int replay_read(struct replay *replay, bool wait, struct replay_line *line) {
    char error[512];
    char *text;
    size_t length;
    *line = (struct replay_line){0};
    for (;;) {
        if (replay->reader.fd < 0 && (!replay->files[replay->file] || open_file(replay, replay->file) < 0))
            return replay->files[replay->file] ? -EINVAL : 0;
        int r = reader_next(&replay->reader, wait, replay->dialogue.wire.stop, &text, &length);
        if (r == -EAGAIN || r == -ECANCELED)
            return r;
        if (r == 0) {
            reader_close(&replay->reader);
            replay->file++;
            continue;
        }
        if (r > 0 && replay->file == 0 && replay->reader.line < replay->options.from)
            continue;
        if (r > 0)
            r = replay_line_read(line, text, length, replay->options.run, error, sizeof error);
        if (r > 0)
            return 1;
        replay_line_clear(line);
        if (r < 0) {
            replay->status = replay_complain(replay, r, error);
            return -EINVAL;
        }
    }
}
