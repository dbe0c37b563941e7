/* broker.c — the broker link's face: what the daemon and the core call, and the state of the whole. */
#include "links/broker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "broker-internal.h"
#include "portal/portal.h"

uint64_t broker_now(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
        return 0; /* it has no way to fail on Linux */
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- what the core is told ---- */

/* The connection that stands in the way; NULL: none. */
static const struct connection *broker_obstacle(const struct broker *broker) {
    const struct connection *consuming = &broker->consumer.connection;
    const struct connection *publishing = &broker->publisher.connection;
    const struct connection *direct = &broker->direct.connection;
    if (!connection_usable(consuming) || consuming->unproven || consuming->stalled)
        return consuming;
    if (!connection_usable(publishing) || publishing->unproven || publishing->blocked || publishing->stalled)
        return publishing;
    return direct->blocked ? direct : NULL;
}

void broker_report(struct broker *broker) {
    const struct connection *obstacle = broker_obstacle(broker);
    if (broker->stopped)
        return;
    if (!obstacle)
        portal_broker_up(broker->portal);
    else if (*obstacle->cause) /* before the first attempt has ended there is nothing to tell */
        portal_broker_down(broker->portal, obstacle->cause);
}

static bool broker_can_publish(const struct broker *broker) {
    const struct connection *publishing = &broker->publisher.connection;
    return !broker->stopped && connection_usable(publishing) && !publishing->unproven && !publishing->blocked &&
           !broker->direct.connection.blocked;
}

void broker_tell_ready(struct broker *broker) {
    if (broker_can_publish(broker))
        portal_broker_ready(broker->portal);
}

/* ---- what the core calls ---- */

static int broker_publish(void *self, struct publication *publication) {
    struct broker *broker = self;
    publication->link = NULL;
    if (!broker_can_publish(broker))
        return -EAGAIN;
    if (!publication->letter && reply_is_direct(publication->delivery))
        return direct_publish(&broker->direct, publication);
    return publisher_publish(&broker->publisher, publication);
}

static void broker_abandon(void *self, struct publication *publication) {
    (void)self;
    publisher_abandon(publication);
}

static void broker_settle(void *self, struct delivery *delivery, enum settlement settlement) {
    struct broker *broker = self;
    consumer_settle(&broker->consumer, delivery, settlement);
}

static void broker_intake(void *self, enum intake wanted) {
    struct broker *broker = self;
    consumer_intake(&broker->consumer, wanted);
}

struct broker_link broker_link(struct broker *broker) {
    return (struct broker_link){
        .self = broker,
        .publish = broker_publish,
        .abandon = broker_abandon,
        .settle = broker_settle,
        .intake = broker_intake,
    };
}

/* ---- what the daemon calls ---- */

int broker_new(const struct broker_settings *settings, sd_event *event, struct broker **ret) {
    assert(settings && settings->urls && settings->urls[0] && event && ret);
    struct broker *broker = calloc(1, sizeof *broker);
    if (!broker)
        return -ENOMEM;
    broker->settings = *settings;
    broker->event = sd_event_ref(event);
    while (settings->urls[broker->url_count])
        broker->url_count++;
    int consumer = consumer_init(&broker->consumer, broker);
    int publisher = publisher_init(&broker->publisher, broker, &publisher_user);
    int direct = publisher_init(&broker->direct, broker, &direct_user);
    if (consumer < 0 || publisher < 0 || direct < 0) {
        broker_free(broker);
        return consumer < 0 ? consumer : publisher < 0 ? publisher : direct;
    }
    *ret = broker;
    return 0;
}

void broker_free(struct broker *broker) {
    if (!broker)
        return;
    broker->stopped = true;
    consumer_clear(&broker->consumer);
    publisher_clear(&broker->publisher);
    publisher_clear(&broker->direct);
    sd_event_unref(broker->event);
    free(broker);
}

int broker_start(struct broker *broker, struct portal *portal) {
    assert(broker && portal);
    broker->portal = portal;
    connection_want(&broker->consumer.connection);
    connection_want(&broker->publisher.connection);
    return 0;
}

void broker_stop(struct broker *broker, unsigned timeout_ms) {
    uint64_t deadline = broker_now() + (uint64_t)timeout_ms * 1000;
    broker->stopped = true;
    consumer_flush(&broker->consumer);
    connection_close(&broker->consumer.connection, deadline);
    connection_close(&broker->publisher.connection, deadline);
    connection_close(&broker->direct.connection, deadline);
}

int broker_check(const struct broker_settings *settings, char *error, size_t error_size) {
    assert(settings && settings->urls && settings->urls[0] && error && error_size > 0);
    int result = -EINVAL;
    size_t length = 0;
    for (size_t i = 0; settings->urls[i]; i++) {
        struct opening *opening = NULL;
        char cause[CAUSE_MAX] = "no memory";
        int r = opening_new(settings, settings->urls[i], ROLE_CONSUME, &opening, cause);
        if (r >= 0) {
            opening_run(opening);
            r = opening->error;
            (void)snprintf(cause, sizeof cause, "%s", opening->cause);
            opening_free(opening);
        }
        if (r >= 0)
            return 0;
        result = r;
        int written = snprintf(error + length, error_size - length, "%s%s", length > 0 ? "; " : "", cause);
        if (written > 0)
            length += (size_t)written < error_size - length ? (size_t)written : error_size - length - 1;
    }
    return result;
}

int broker_url_check(const char *url, char *error, size_t error_size) {
    struct amqp_url parsed;
    int r = amqp_url_parse(url, &parsed, error, error_size);
    if (r >= 0)
        amqp_url_clear(&parsed);
    else if (r == -ENOMEM)
        (void)snprintf(error, error_size, "no memory to look at it");
    return r;
}
