/* broker.h — RabbitMQ on the loop: one connection consumes, one publishes, one answers direct reply-to. Opening, login
 * and declaring block in rabbitmq-c, so a helper thread does them; everything else happens on the loop. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "portal/links.h"

struct portal;
struct broker;

struct broker_settings {
    char *const *urls;    /* amqp:// or amqps://… (?cacertfile=PATH&verify=verify_none), in turn; NULL at the end */
    uint16_t prefetch;    /* requests in hand */
    bool verify_topology; /* only check the queues, declare nothing */
    const char *worker;   /* for the connection's name and dead letters */
    uint32_t connect_seconds; /* time-out of one attempt to connect */
    uint16_t heartbeat_seconds;
    uint32_t answer_seconds;   /* a message that is not confirmed for so long makes the broker count as away */
    uint32_t reply_ttl_ms;     /* x-message-ttl of portal.replies */
    uint32_t reply_max_length; /* x-max-length of portal.replies */
};

/* The settings and what they point to are borrowed for the broker's life. Result: 0 or a negative errno; `*ret` is the
 * caller's, freed with broker_free(). Connecting begins with broker_start(). */
int broker_new(const struct broker_settings *settings, sd_event *event, struct broker **ret);
void broker_free(struct broker *broker);

/* The table of functions for the core; and whom to tell (portal.h). */
struct broker_link broker_link(struct broker *broker);
int broker_start(struct broker *broker, struct portal *portal);

/* Closes the connections in order, so that the broker requeues at once; at most `timeout_ms`. */
void broker_stop(struct broker *broker, unsigned timeout_ms);

/* Connects, logs in and checks (or declares) the queues on the caller's thread; for --check and portalctl check.
 * Result: 0, or a negative errno with the cause in `error`, without the password. */
int broker_check(const struct broker_settings *settings, char *error, size_t error_size);

/* Whether `url` can be used: 0, or -EINVAL with what would be right in `error`. */
int broker_url_check(const char *url, char *error, size_t error_size);
