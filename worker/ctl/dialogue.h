/* dialogue.h — requests and their replies: sends a bounded number at once, each until it is confirmed and answered,
 * also over a broker that restarts in the middle. What is sent again has the same request id, so the answer is the
 * same. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

enum { DIALOGUE_MAX = 1000, DIALOGUE_BYTES_MAX = 8 * 1024 * 1024 };

/* One request. Made by the caller with malloc(), and the dialogue's from dialogue_send() until it is handed back. */
struct dialogue_request {
    char *body;
    size_t body_length;
    json_t *properties;   /* checked with amqp_json_check(); what is left out is chosen here */
    bool awaited;         /* a reply is waited for; false: it is done once the broker has it */
    unsigned patience_ms; /* how long, counted from the confirm of the last sending */
    size_t line;          /* the caller's mark, of which the lowest can be asked for */
    void *mark;           /* the caller's */

    /* the dialogue's */
    char correlation_id[WIRE_NAME_MAX];
    uint64_t sequence; /* 0: to be sent; of this connection */
    uint64_t since;    /* monotonic: when it was sent, confirmed, or may be sent again */
    bool confirmed;
};

enum dialogue_end {
    DIALOGUE_ANSWERED, /* with a reply */
    DIALOGUE_SENT,     /* not awaited, and confirmed */
    DIALOGUE_LATE,     /* no reply in time */
    DIALOGUE_TOO_LARGE /* its properties do not fit into AMQP */
};

struct dialogue {
    struct wire wire;
    /* Called with each that has ended; the request is the callee's again. */
    void (*done)(void *userdata, struct dialogue_request *request, enum dialogue_end end,
                 const struct wire_message *reply);
    void *userdata;
    struct dialogue_request *open[DIALOGUE_MAX]; /* in the order they were given */
    size_t count;
    size_t bytes;
    size_t unsent;
    uint64_t expire_at; /* when to look again for those whose time is over */
    bool listening;     /* replies are wanted: there is a queue for them */
    char reply_to[WIRE_NAME_MAX];
    char run[16]; /* marks correlation ids of this run */
    uint64_t number;
};

/* Connects. `done` and `userdata` are set by the caller before. Result: 0, or a negative errno (wire_complain()). */
int dialogue_open(struct dialogue *dialogue, const struct broker_settings *settings, int stop, bool listening);
void dialogue_close(struct dialogue *dialogue);

/* Whether one more of this length may be given. */
bool dialogue_has_room(const struct dialogue *dialogue, size_t at_most, size_t length);

/* Takes the request over and sends it as soon as that is possible. */
void dialogue_send(struct dialogue *dialogue, struct dialogue_request *request);

/* Works for so many milliseconds at most, or until something came. Result: 0; -ECANCELED: stopped; or a negative errno:
 * the connection is gone for good (wire_complain()), or nobody takes requests (said already). */
int dialogue_step(struct dialogue *dialogue, unsigned milliseconds);

/* The lowest line of those that have not ended; `otherwise` where there are none. */
size_t dialogue_lowest(const struct dialogue *dialogue, size_t otherwise);

void dialogue_request_free(struct dialogue_request *request);

/* Eight letters and digits that no other run has. */
void dialogue_random_name(char name[static 9]);
