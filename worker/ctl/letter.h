/* letter.h — one message of portal.dead: what it carries and why it lies there. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

/* Freed with letter_clear(); texts are its own. */
struct letter {
    const struct wire_message *message; /* borrowed */
    char handle[13];                    /* by which a person can name it: a digest of what tells letters apart */
    json_t *properties;                 /* all of the message's, amqp_to_json() */
    json_t *body;                       /* NULL: it is no JSON object */
    const char *reason;                 /* x-portal-reason; or, put there by RabbitMQ, "expired" or "rejected" */
    char *error;                        /* without URLs; or NULL */
    const char *worker;                 /* or NULL */
    const char *request_id;             /* or NULL */
    int64_t team_id, user_id;           /* 0: none */
    int64_t attempts;
    uint32_t next_generation; /* 0: not known */
    uint64_t died_at;         /* microseconds since 1970; 0: not known */
    bool by_worker;
};

/* Result: 0 or -ENOMEM. */
int letter_read(struct letter *letter, const struct wire_message *message);
void letter_clear(struct letter *letter);

/* As JSON, for list and show: the caller's; NULL without memory. */
json_t *letter_to_json(const struct letter *letter);

/* The properties that the request had when it was sent: the caller's; NULL without memory. */
json_t *letter_original(const struct letter *letter);

/* The line of a replay file, without its end: the caller's to free; NULL without memory. */
char *letter_to_line(const struct letter *letter);

/* Why it would fail again, in words; NULL where it may work. Texts are static, or in `words`. */
const char *letter_verdict(const struct letter *letter, char *words, size_t size);

/* Makes of a request's properties (taken over; NULL is passed on) those of its next working: the least generation
 * wanted (0: any), waited for until `deadline` (RFC 3339 or "none"), sent by whoever sends it. Result: the caller's;
 * NULL without memory. */
json_t *revive(json_t *properties, uint64_t generation, const char *deadline);

/* ---- letter-filter.c: which letters are meant ---- */

enum { FILTER_REASONS_MAX = 16 };

struct letter_filter {
    const char *reasons[FILTER_REASONS_MAX + 1]; /* NULL at the end; none: any */
    uint64_t since, until;                       /* microseconds since 1970; 0: any */
    uint64_t team;                               /* 0: any */
    char **names;                                /* handles and request ids, NULL at the end; none: any */
    bool *found;                                 /* of each name: there was one */
    bool all;
};

/* The options of a filter, to be put into a table for getopt_long(). */
#define FILTER_OPTIONS                                                                                                 \
    {"reason", required_argument, NULL, 'r'}, {"since", required_argument, NULL, 's'},                                 \
        {"until", required_argument, NULL, 'u'}, {"team", required_argument, NULL, 't'}, {                             \
        "all", no_argument, NULL, 'a'                                                                                  \
    }

#define FILTER_HELP                                                                                                    \
    "  --reason R       with this reason, or one of these: stripe_unavailable,expired\n"                               \
    "  --since TIME     put there since: RFC 3339, or how long ago: 30m, 2h, 7d\n"                                     \
    "  --until TIME     put there before\n"                                                                            \
    "  --team ID        that ask for this team\n"

/* Takes one of these options. Result: 0, or an exit status. */
int filter_option(struct letter_filter *filter, const char *title, int option);

/* Takes the words that follow the options. Result: 0, or an exit status. */
int filter_names(struct letter_filter *filter, char **names);

/* Whether it says anything at all. */
bool filter_is_set(const struct letter_filter *filter);

bool filter_matches(struct letter_filter *filter, const struct letter *letter);

/* Complains about each name that was not found. Result: whether all were. */
bool filter_tell_missing(const struct letter_filter *filter);

void filter_clear(struct letter_filter *filter);
