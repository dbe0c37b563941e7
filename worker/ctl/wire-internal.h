/* wire-internal.h — what the files of the wire share. */
#pragma once

#include "wire.h"

/* Publishing has the daemon's channel, in confirm mode; what may fail by itself has others. */
enum { WIRE_CHANNEL = 1, WIRE_CHANNEL_CONSUME = 2, WIRE_CHANNEL_ASK = 3 };

/* A message on its way in. Properties are copied out of the library's memory, which is released frame by frame. */
struct wire_incoming {
    bool active;
    bool headed;   /* its header came */
    uint64_t left; /* bytes of the body to come */
    char *raw;     /* the header frame's properties, encoded */
    size_t raw_size;
    amqp_pool_t pool; /* of the decoded ones */
    char body[WIRE_BODY_MAX];
};

/* Notes why, and closes the socket. Always -EPIPE. */
int wire_lose(struct wire *wire, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with the broker's reason for closing connection or channel; decides whether that is hopeless. */
int wire_lose_closed(struct wire *wire, const char *what, const amqp_method_t *method);

/* Looks at the reply to an RPC; `what` was asked for. Result: 0 or -EPIPE. */
int wire_check_rpc(struct wire *wire, const char *what);
