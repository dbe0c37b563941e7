/* check-broker.c — is RabbitMQ as a worker needs it? */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "portal/names.h"
#include "wire.h"

enum { PROBE_MS = 10000 };

static const char start_a_worker[] = "a worker that starts with AMQP_TOPOLOGY=declare makes it";

/* ---- exchange and queues ---- */

/* The complaint about one of them in what broker_check() says about all: "queue a: …; queue b: …". Result: its length,
 * and `*begin`; 0: there is none. */
static size_t find_complaint(const char *all, const char *what, const char **begin) {
    static const char *const nexts[] = {"; exchange ", "; queue ", "; binding "};
    const char *at = strstr(all, what);
    if (!at || strncmp(at + strlen(what), ": ", 2) != 0)
        return 0;
    at += strlen(what) + 2;
    size_t length = strlen(at);
    for (size_t i = 0; i < sizeof nexts / sizeof *nexts; i++) {
        const char *next = strstr(at, nexts[i]);
        if (next && (size_t)(next - at) < length)
            length = (size_t)(next - at);
    }
    *begin = at;
    return length;
}

static void check_topology(struct checker *checker, const struct broker_settings *settings) {
    static const char *const things[] = {"exchange " EXCHANGE, "queue " QUEUE_REQUESTS, "queue " QUEUE_DEAD,
                                         "queue " QUEUE_REPLIES};
    struct broker_settings verify = *settings;
    char all[WIRE_CAUSE_MAX] = "";
    bool named = false;
    verify.verify_topology = true; /* looks, and makes nothing */
    verify.prefetch = 1;
    int r = broker_check(&verify, all, sizeof all);
    for (size_t i = 0; i < sizeof things / sizeof *things; i++) {
        const char *complaint = "";
        size_t length = r < 0 ? find_complaint(all, things[i], &complaint) : 0;
        bool missing = length >= 10 && strncmp(complaint, "is missing", 10) == 0;
        named |= length > 0;
        if (length == 0)
            check_tell(checker, CHECK_GOOD, things[i], NULL, "as it has to be");
        else if (missing)
            check_tell(checker, CHECK_BAD, things[i], start_a_worker, "is missing");
        else
            check_tell(checker, CHECK_BAD, things[i],
                       "delete it once it is empty, or change the policy or setting that it comes from", "%.*s",
                       (int)length, complaint);
    }
    if (r < 0 && !named)
        check_tell(checker, CHECK_BAD, "queues", NULL, "%s", all);
}

/* ---- rights ---- */

/* Publishes to where no queue is: it comes back, but only if the right is there. Result: 0, or -EPIPE with the cause.
 */
static int probe(struct wire *wire, const char *exchange, const char *key) {
    const amqp_basic_properties_t properties = {0};
    int r = wire_publish(wire, exchange, key, &properties, amqp_empty_bytes);
    uint64_t end = ctl_monotonic() + (uint64_t)PROBE_MS * 1000;
    while (r == 0 && ctl_monotonic() < end) {
        enum wire_event event = wire_wait(wire, PROBE_MS);
        if (event == WIRE_CONFIRMED)
            return 0;
        if (event == WIRE_LOST)
            return -EPIPE;
    }
    return r;
}

static void check_right(struct checker *checker, struct wire *wire, const char *what, const char *exchange,
                        const char *key) {
    char queue[WIRE_NAME_MAX];
    if (!wire->amqp && wire_open(wire) < 0) {
        check_tell(checker, CHECK_BAD, what, NULL, "%s", wire->cause);
        return;
    }
    int r = exchange ? probe(wire, exchange, key) : wire_reply_queue(wire, queue);
    if (r == 0)
        check_tell(checker, CHECK_GOOD, what, NULL, "allowed");
    else
        check_tell(checker, CHECK_BAD, what,
                   "rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ; the man page has the patterns",
                   "%s", *wire->cause ? wire->cause : "RabbitMQ does not answer");
}

static void check_backlog(struct checker *checker, struct wire *wire) {
    uint32_t messages = 0;
    uint32_t consumers = 0;
    if (wire->amqp && wire_count(wire, QUEUE_DEAD, &messages, &consumers) == 0 && messages > 0)
        check_tell(checker, CHECK_DOUBTFUL, "dead letters", "\"portalctl dead list\" says why", "%u lie in " QUEUE_DEAD,
                   messages);
    if (wire->amqp && wire_count(wire, QUEUE_REQUESTS, &messages, &consumers) == 0 && consumers == 0)
        check_tell(checker, CHECK_DOUBTFUL, "consumers", "start a worker: systemctl start portal-worker",
                   "nobody takes requests; %u wait", messages);
}

void check_broker(struct checker *checker) {
    static const char *const names[] = {"AMQP_URL", "AMQP_TOPOLOGY", "PORTAL_REPLIES_TTL_SECONDS",
                                        "PORTAL_REPLIES_MAX_LENGTH", NULL};
    AUTOSETTINGS struct settings settings = {0};
    struct wire wire;
    if (!check_load(checker, "RabbitMQ", &settings, names))
        return;
    if (wire_init(&wire, &settings.broker, -1) < 0)
        return;
    if (wire_open(&wire) < 0)
        check_tell(checker, CHECK_BAD, "RabbitMQ",
                   wire.stranger ? "put user, password and virtual host in AMQP_URL right"
                                 : "is it running, and AMQP_URL right? systemctl status rabbitmq-server",
                   "%s", wire.cause);
    else {
        check_tell(checker, CHECK_GOOD, "RabbitMQ", NULL, "logged in as %s", wire.user);
        check_topology(checker, &settings.broker);
        check_right(checker, &wire, "right to publish requests", EXCHANGE, "portalctl.check");
        check_right(checker, &wire, "right to publish replies and dead letters", "", "portalctl.check");
        check_right(checker, &wire, "right to a reply queue (portalctl's own)", NULL, NULL);
        check_backlog(checker, &wire);
    }
    wire_close(&wire);
}
