/* broker-stall.c — what the broker took and does not answer: messages that it does not confirm, a consumer that it does
 * not begin or end. Their queue has lost the majority of its nodes, or the node that it is on stands still.
 *
 * RabbitMQ has no time-out for that. As long as the channel lives it keeps what it was sent and answers once the queue
 * is back; a message that was published again would be there twice. So whoever waits goes on waiting, and the broker
 * counts as away meanwhile. */
#include <poll.h>
#include <stdio.h>

#include "broker-internal.h"

static const uint64_t SECOND = 1000000; /* microseconds, as all times here */
static const uint64_t AGAIN = SECOND / 4;

uint64_t stall_due(const struct connection *connection, uint64_t sent_at) {
    uint64_t from = sent_at > connection->patient_from ? sent_at : connection->patient_from;
    return from + connection->broker->settings.answer_seconds * SECOND;
}

void stall_set(struct connection *connection, bool stalled, const char *what) {
    bool changed = connection->stalled != stalled;
    if (!connection_usable(connection))
        return; /* its cause stays */
    connection->stalled = stalled;
    if (stalled)
        (void)snprintf(connection->cause, sizeof connection->cause,
                       "RabbitMQ has not %s for %u s: has the queue lost the majority of its nodes?", what,
                       (unsigned)connection->broker->settings.answer_seconds);
    if (changed)
        broker_report(connection->broker);
}

static void stall_look_at(struct connection *connection, uint64_t when) {
    if (sd_event_source_set_time(connection->patience, when) < 0 ||
        sd_event_source_set_enabled(connection->patience, SD_EVENT_ONESHOT) < 0)
        connection_break(connection, "the loop can't keep the time");
}

void stall_expect(struct connection *connection) {
    if (sd_event_source_get_enabled(connection->patience, NULL) <= 0)
        stall_look_at(connection, stall_due(connection, broker_now()));
}

void stall_look(struct connection *connection) {
    uint64_t next = connection->user->look(connection, broker_now());
    if (next < UINT64_MAX)
        stall_look_at(connection, next);
}

/* Put off where an answer may be on its way in, also where it was this process that stood still, and while the broker
 * says that it takes nothing. */
static int stall_on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
    struct connection *connection = userdata;
    struct pollfd pollfd = {.fd = connection->fd, .events = POLLIN};
    (void)source;
    (void)usec;
    if (!connection_usable(connection))
        return 0;
    if (connection->blocked || poll(&pollfd, 1, 0) != 0)
        stall_look_at(connection, broker_now() + AGAIN);
    else
        stall_look(connection);
    return 0;
}

/* Dispatched after the connection's own events. */
int stall_init(struct connection *connection) {
    int r = sd_event_add_time(connection->broker->event, &connection->patience, CLOCK_MONOTONIC, 0, 1000,
                              stall_on_patience, connection);
    if (r >= 0)
        r = sd_event_source_set_enabled(connection->patience, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_source_set_priority(connection->patience, SD_EVENT_PRIORITY_NORMAL + 1);
    return r < 0 ? r : 0;
}
