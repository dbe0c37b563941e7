/* replay.h — what the files of "portalctl replay" share. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dialogue.h"
#include "look.h"
#include "progress.h"
#include "reader.h"
#include "replay-line.h"

enum { REPLAY_TALLIES = 40, REPLAY_NAMES_MAX = 10000, REPLAY_WAIT_SECONDS = 120 /* for a reply */ };

struct replay_options {
    double rate;          /* requests a second; 0: as fast as it goes */
    uint64_t concurrency; /* under way at once; 0: the default */
    uint64_t wait_seconds;
    uint64_t from;        /* the first file's first line to be sent */
    const char *deadline; /* as it was given: x-portal-deadline's, where a line has none; NULL: nothing */
    uint64_t deadline_seconds;
    bool check, dry_run, json, show_url;
    char run[64];
};

/* What became of how many. */
struct replay_tally {
    char name[64];
    uint64_t count;
};

struct replay {
    struct replay_options options;
    char **files; /* NULL at the end */
    size_t file;  /* the one that is being read */
    struct reader reader;
    struct dialogue dialogue;
    struct progress progress;
    bool table; /* of a check, for people */
    struct grid grid;
    bool ended;       /* all is read */
    uint64_t next_at; /* monotonic: the rate's */
    uint64_t total;   /* requests, 0: nobody knows */
    uint64_t sent, done, late, wrong;
    bool prepared;   /* a line wanted something put right first */
    json_t *wanted;  /* names that a line wants to be the same as; NULL: nobody knows */
    json_t *replies; /* by name: what came of it */
    struct replay_tally tallies[REPLAY_TALLIES];
    int status; /* an exit status, once it can't go on */
};

/* ---- replay-read.c ---- */

/* Looks through all files before anything is sent: counts requests, and complains about every line that is wrong.
 * Result: 0 or an exit status. */
int replay_scan(struct replay *replay);

/* The next line with a request. Result: 1; 0: there is none any more; -EAGAIN: not yet; -ECANCELED; or -EINVAL with
 * replay->status set, complained. */
int replay_read(struct replay *replay, bool wait, struct replay_line *line);

/* Complains about a line of the file that is being read. Result: the exit status. */
int replay_complain(struct replay *replay, int error, const char *what);

/* ---- replay-result.c ---- */

/* A request under way, the mark of a struct dialogue_request. */
struct replay_mark {
    size_t file, line;
    char *name;     /* or NULL */
    char *id;       /* or NULL */
    json_t *expect; /* or NULL */
    uint64_t sent_at;
};

struct replay_mark *replay_mark_new(const struct replay *replay, const struct replay_line *line);
void replay_mark_free(struct replay_mark *mark);

/* struct dialogue's done. */
void replay_done(void *userdata, struct dialogue_request *request, enum dialogue_end end,
                 const struct wire_message *message);

/* Prints what became of all. */
void replay_sum_up(struct replay *replay);

/* Says with which command the rest can be sent. */
void replay_tell_rest(const struct replay *replay);
