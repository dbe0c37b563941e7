/* delivery.h — one message as the broker delivered it: the core reads it, the broker link owns what is behind it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A request's body and, apart from it, its header frame (properties and headers) may each be this long, in bytes. */
enum { DELIVERY_BODY_MAX = 16 * 1024, DELIVERY_PROPERTIES_MAX = 16 * 1024 };

/*
 * Texts are NUL-terminated and valid UTF-8: the link puts U+FFFD in place of each byte that is neither, so that what is
 * checked is what is used. NULL stands for an absent property. All memory belongs to the link and lives until the
 * delivery is settled.
 */
struct delivery {
    const char *body; /* not NUL-terminated; NULL where `oversized` */
    size_t body_length;
    uint64_t body_size; /* bytes, as the content header announced (AMQP 0-9-1 §4.2.6.1) */
    bool oversized;     /* body or properties over the limit: nothing of them was kept but the properties below */

    const char *message_id;
    const char *correlation_id;
    const char *reply_to;
    const char *user_id;     /* checked by the broker against the sender's login */
    uint64_t timestamp;      /* seconds since 1970; 0: absent */
    const char *traceparent; /* headers from here on */
    const char *tracestate;
    const char *generation; /* x-portal-generation: an integer as decimal text; any other type as a text that is none */
    const char *deadline;   /* x-portal-deadline */
    uint64_t delivery_count; /* x-delivery-count: how often it was delivered and came back */

    bool lost; /* its channel is gone: it can no longer be settled, only dropped, and the broker delivers it again */
};
