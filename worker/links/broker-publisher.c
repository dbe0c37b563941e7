/* broker-publisher.c — messages under way: sending them, and matching the broker's confirms and returns to them. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker-internal.h"

static struct publisher *publisher_of(struct connection *connection) {
    return (struct publisher *)connection; /* its first member */
}

/* Microseconds; while something is overdue: does anybody wait for it still, is a probe confirmed? */
static const uint64_t LOOK_AGAIN = 1000000;

/* ---- sending ---- */

void publisher_append(struct publisher *publisher, struct outgoing *outgoing, struct publication *publication) {
    outgoing->publication = publication;
    publication->link = outgoing;
    TAILQ_INSERT_TAIL(&publisher->outgoing, outgoing, entry);
}

void publisher_reset(struct publisher *publisher) {
    publisher->sequence = publisher->confirmed = publisher->probed = 0;
}

static bool is_own_queue(amqp_bytes_t queue) {
    static const char *const own[] = {QUEUE_DEAD, QUEUE_REPLIES};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (queue.len == strlen(own[i]) && memcmp(queue.bytes, own[i], queue.len) == 0)
            return true;
    return false;
}

/* Confirms count the messages of a channel from 1 in the order they were sent. */
int publisher_send(struct publisher *publisher, struct outgoing *outgoing, const struct message *message) {
    int r = connection_publish(&publisher->connection, message);
    if (r < 0)
        return r;
    outgoing->sequence = ++publisher->sequence;
    outgoing->sent_at = broker_now();
    outgoing->own = is_own_queue(message->routing_key);
    stall_expect(&publisher->connection);
    return 0;
}

int publisher_publish(struct publisher *publisher, struct publication *publication) {
    struct message message;
    if (publisher->connection.blocked || !connection_room(&publisher->connection))
        return -EAGAIN;
    struct outgoing *outgoing = calloc(1, sizeof *outgoing);
    if (!outgoing) {
        connection_try_later(&publisher->connection);
        return -EAGAIN;
    }
    int r = 0;
    if (publication->letter) {
        r = message_from_letter(&message, publication, publisher->connection.broker->settings.worker,
                                publisher->sequence + 1);
    } else {
        struct reply reply = reply_of(publication);
        message_from_reply(&message, &reply, publisher->sequence + 1);
    }
    if (r >= 0)
        r = publisher_send(publisher, outgoing, &message);
    message_clear(&message);
    if (r < 0) { /* the connection is lost, or there is no memory */
        free(outgoing);
        connection_try_later(&publisher->connection);
        return -EAGAIN;
    }
    publisher_append(publisher, outgoing, publication);
    return 0;
}

/* What is under way keeps its place among the numbers; only its owner is forgotten. */
void publisher_abandon(struct publication *publication) {
    struct outgoing *outgoing = publication->link;
    if (!outgoing)
        return;
    assert(outgoing->publication == publication);
    outgoing->publication = NULL;
    publication->link = NULL;
}

/* ---- what became of them ---- */

static void outgoing_finish(struct outgoing *outgoing, enum publish_result result) {
    struct publication *publication = outgoing->publication;
    free(outgoing);
    if (publication) {
        publication->link = NULL;
        publication->done(publication, result);
    }
}

void publisher_finish(struct publisher *publisher, struct outgoing *outgoing, enum publish_result result) {
    TAILQ_REMOVE(&publisher->outgoing, outgoing, entry);
    outgoing_finish(outgoing, result);
}

static enum publish_result outgoing_result(const struct outgoing *outgoing, enum publish_result result) {
    return outgoing->returned ? PUBLISH_RETURNED : result;
}

/* Ends all of `list`. Owners may publish and abandon meanwhile, so each is taken off before it is told. */
static void outgoing_finish_all(struct outgoing_list *list, enum publish_result result) {
    struct outgoing *outgoing = NULL;
    while ((outgoing = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, outgoing, entry);
        outgoing_finish(outgoing, outgoing_result(outgoing, result));
    }
}

void publisher_lose_all(struct publisher *publisher) {
    struct outgoing_list lost = TAILQ_HEAD_INITIALIZER(lost);
    TAILQ_CONCAT(&lost, &publisher->outgoing, entry);
    outgoing_finish_all(&lost, PUBLISH_LOST);
}

/* basic.ack and basic.nack: of one message, or of all up to it (RabbitMQ's "Publisher Confirms"; 0 with `multiple` is
 * all there are, AMQP 0-9-1 §1.8.3.13). They come roughly in order, so the search is short. */
static void publisher_confirm(struct publisher *publisher, uint64_t tag, bool multiple, enum publish_result result) {
    struct outgoing_list confirmed = TAILQ_HEAD_INITIALIZER(confirmed);
    struct outgoing *outgoing = TAILQ_FIRST(&publisher->outgoing);
    while (outgoing && outgoing->sequence > 0 && (outgoing->sequence <= tag || (multiple && tag == 0))) {
        struct outgoing *next = TAILQ_NEXT(outgoing, entry);
        if (multiple || outgoing->sequence == tag) {
            TAILQ_REMOVE(&publisher->outgoing, outgoing, entry);
            TAILQ_INSERT_TAIL(&confirmed, outgoing, entry);
        }
        outgoing = next;
    }
    uint64_t highest = tag > 0 ? tag : publisher->sequence;
    if (highest > publisher->confirmed)
        publisher->confirmed = highest;
    outgoing_finish_all(&confirmed, result);
    if (publisher->connection.stalled)
        stall_look(&publisher->connection);
    if (publisher->connection.unproven) {
        connection_prove(&publisher->connection);
        broker_tell_ready(publisher->connection.broker);
    }
    if (publisher->connection.user == &direct_user)
        direct_pump(publisher);
}

/* ---- what becomes of nothing ---- */

/* Whether the broker confirmed what was sent later to other queues: then it is the trouble of one queue, which is not
 * to hold up the rest. Unless it is one of the worker's own. */
static bool is_overtaken(const struct publisher *publisher, const struct outgoing *outgoing) {
    return !outgoing->own && outgoing->sequence < publisher->confirmed;
}

/* Publishes to no queue: the broker looks at the user's rights first, and confirms. Result: 0, or a negative errno;
 * the connection may be broken then. */
static int publisher_probe(struct publisher *publisher) {
    struct message message;
    struct reply nothing = {.routing_key = amqp_cstring_bytes("")};
    struct outgoing *outgoing = calloc(1, sizeof *outgoing);
    if (!outgoing)
        return -ENOMEM;
    message_from_reply(&message, &nothing, publisher->sequence + 1);
    message.mandatory = false;
    int r = publisher_send(publisher, outgoing, &message);
    if (r < 0) {
        free(outgoing);
        return r;
    }
    TAILQ_INSERT_TAIL(&publisher->outgoing, outgoing, entry);
    publisher->probed = outgoing->sequence;
    publisher->probed_at = outgoing->sent_at;
    return 0;
}

/* Where nothing else is sent nothing is overtaken. So a probe is sent behind what is overdue: a broker that serves
 * confirms it. Result: whether that may still come any moment. */
static bool is_probed(struct publisher *publisher, uint64_t now) {
    struct connection *connection = &publisher->connection;
    if (publisher->probed <= publisher->confirmed &&
        (connection->blocked || !connection_room(connection) || publisher_probe(publisher) < 0))
        return false;
    return now < publisher->probed_at + LOOK_AGAIN;
}

/* What a look finds of what is under way. */
struct debts {
    struct outgoing_list overtaken; /* taken off */
    bool overdue;
    bool own;      /* … and one of it goes to a queue of the worker's own */
    bool waiting;  /* somebody waits for something of it all */
    uint64_t next; /* when the next will be overdue; UINT64_MAX: none */
};

static void publisher_count(struct publisher *publisher, uint64_t now, struct debts *debts) {
    struct outgoing *outgoing = TAILQ_FIRST(&publisher->outgoing);
    while (outgoing && outgoing->sequence > 0) { /* those behind were not sent yet */
        struct outgoing *behind = TAILQ_NEXT(outgoing, entry);
        uint64_t due = stall_due(&publisher->connection, outgoing->sent_at);
        if (now >= due && is_overtaken(publisher, outgoing)) {
            TAILQ_REMOVE(&publisher->outgoing, outgoing, entry);
            TAILQ_INSERT_TAIL(&debts->overtaken, outgoing, entry);
        } else {
            debts->waiting |= outgoing->publication != NULL;
            debts->overdue |= now >= due;
            debts->own |= now >= due && outgoing->own;
            if (now < due && due < debts->next)
                debts->next = due;
        }
        outgoing = behind;
    }
}

/* Nothing is published again while its channel lives. Once nobody waits any more for what is overdue (it was held too
 * long, and given back), a new connection is tried. Direct replies have no queue that could stall. */
uint64_t publisher_look(struct connection *connection, uint64_t now) {
    struct publisher *publisher = publisher_of(connection);
    struct debts debts = {.overtaken = TAILQ_HEAD_INITIALIZER(debts.overtaken), .next = UINT64_MAX};
    bool direct = connection->user == &direct_user;
    publisher_count(publisher, now, &debts);
    bool in_doubt = debts.overdue && !debts.own && !direct && is_probed(publisher, now);
    bool stalled = debts.overdue && (connection->stalled || !in_doubt);
    stall_set(connection, stalled, "confirmed a message");
    if (stalled && (!debts.waiting || direct))
        connection_break(connection, "%s", connection->cause);
    outgoing_finish_all(&debts.overtaken, PUBLISH_REFUSED);
    return debts.overdue && now + LOOK_AGAIN < debts.next ? now + LOOK_AGAIN : debts.next;
}

/* ---- what the broker sends ---- */

/* One of the worker's own queues is gone: opening the consuming connection anew declares it, or says that it is
 * missing. */
static void publisher_returned(struct publisher *publisher, amqp_bytes_t queue) {
    if (is_own_queue(queue))
        connection_break(&publisher->connection.broker->consumer.connection, "queue %.*s was deleted", (int)queue.len,
                         (const char *)queue.bytes);
}

void publisher_on_method(struct connection *connection, const amqp_method_t *method) {
    struct publisher *publisher = publisher_of(connection);
    if (method->id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *ack = method->decoded;
        publisher_confirm(publisher, ack->delivery_tag, ack->multiple, PUBLISH_CONFIRMED);
    } else if (method->id == AMQP_BASIC_NACK_METHOD) {
        const amqp_basic_nack_t *nack = method->decoded;
        publisher_confirm(publisher, nack->delivery_tag, nack->multiple, PUBLISH_REFUSED);
    } else if (method->id == AMQP_BASIC_RETURN_METHOD) {
        publisher_returned(publisher, ((const amqp_basic_return_t *)method->decoded)->routing_key);
    }
}

/* A basic.return, which comes before the confirm: the message comes back as it was sent, with its number. */
void publisher_on_header(struct connection *connection, uint64_t body_size, const amqp_basic_properties_t *properties,
                         amqp_bytes_t raw) {
    struct publisher *publisher = publisher_of(connection);
    struct outgoing *outgoing;
    uint64_t sequence = 0;
    bool negative = false;
    (void)body_size;
    (void)raw;
    if (!(properties->_flags & AMQP_BASIC_HEADERS_FLAG) ||
        !field_integer(table_find(&properties->headers, HEADER_SEQUENCE), &sequence, &negative))
        return;
    for (outgoing = TAILQ_FIRST(&publisher->outgoing); outgoing; outgoing = TAILQ_NEXT(outgoing, entry))
        if (outgoing->sequence == sequence && sequence > 0)
            outgoing->returned = true;
}

void publisher_on_body(struct connection *connection, amqp_bytes_t piece) {
    (void)connection;
    (void)piece;
}

/* ---- the connection for all but direct replies ---- */

static void publisher_on_ready(struct connection *connection) {
    publisher_reset(publisher_of(connection));
    if (!connection->unproven)
        broker_tell_ready(connection->broker);
    else if (publisher_probe(publisher_of(connection)) < 0)
        connection_break(connection, "no memory to publish");
}

static void publisher_on_writable(struct connection *connection) {
    broker_tell_ready(connection->broker);
}

/* What goes to direct replies has a connection of its own, but the same broker: that is away, probably. */
static void publisher_on_lost(struct connection *connection) {
    publisher_lose_all(publisher_of(connection));
    publisher_lose_all(&connection->broker->direct);
}

const struct connection_user publisher_user = {
    .role = ROLE_PUBLISH,
    .name = "publishing",
    .ready = publisher_on_ready,
    .method = publisher_on_method,
    .header = publisher_on_header,
    .body = publisher_on_body,
    .writable = publisher_on_writable,
    .lost = publisher_on_lost,
    .look = publisher_look,
};

int publisher_init(struct publisher *publisher, struct broker *broker, const struct connection_user *user) {
    TAILQ_INIT(&publisher->outgoing);
    return connection_init(&publisher->connection, broker, user);
}

void publisher_clear(struct publisher *publisher) {
    struct outgoing *outgoing = NULL;
    connection_clear(&publisher->connection);
    while ((outgoing = TAILQ_FIRST(&publisher->outgoing))) {
        TAILQ_REMOVE(&publisher->outgoing, outgoing, entry);
        free(outgoing); /* the publication may be gone with its owner */
    }
}
