/* load.c — the other side of a bench: queues requests and times the replies.
 *
 *   load drain N FIRST TEAMS     N fresh requests at once, over so many teams from id FIRST; "queued" once the broker
 *                                has them, then a line of JSON once N different replies are there
 *   load latency N FIRST TEAMS   one request after the other
 *
 * AMQP_URL names the broker. Anything unexpected ends it with a word. */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { UNCONFIRMED_MAX = 1000, CHANNEL = 1 };

struct load {
    amqp_connection_state_t amqp;
    amqp_bytes_t reply_to;
    long count;
    long first_team;
    long teams;
    bool *answered; /* by number */
};

static void must(bool right, const char *what) {
    if (right)
        return;
    (void)fprintf(stderr, "load: %s failed\n", what);
    exit(1);
}

static void must_reply(const struct load *load, const char *what) {
    must(amqp_get_rpc_reply(load->amqp).reply_type == AMQP_RESPONSE_NORMAL, what);
}

static double now(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time); /* can't fail with this clock */
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void connect_to(struct load *load, char *url) {
    struct amqp_connection_info info;
    must(url && amqp_parse_url(url, &info) == AMQP_STATUS_OK, "reading AMQP_URL");
    load->amqp = amqp_new_connection();
    amqp_socket_t *socket = load->amqp ? amqp_tcp_socket_new(load->amqp) : NULL;
    must(socket && amqp_socket_open(socket, info.host, info.port) == AMQP_STATUS_OK, "connecting");
    must(amqp_login(load->amqp, info.vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                    info.password)
                 .reply_type == AMQP_RESPONSE_NORMAL,
         "logging in");
    must(amqp_channel_open(load->amqp, CHANNEL) != NULL, "opening a channel");

    const amqp_queue_declare_ok_t *queue =
        amqp_queue_declare(load->amqp, CHANNEL, amqp_empty_bytes, false, false, true, true, amqp_empty_table);
    must(queue != NULL, "declaring a queue for the replies");
    load->reply_to = amqp_bytes_malloc_dup(queue->queue);
    must(load->reply_to.bytes != NULL, "keeping its name");
    (void)amqp_basic_consume(load->amqp, CHANNEL, load->reply_to, amqp_empty_bytes, false, true, true,
                             amqp_empty_table);
    must_reply(load, "consuming the replies");
}

static void publish(const struct load *load, long number) {
    char id[32];
    char body[128];
    (void)snprintf(id, sizeof id, "%ld", number);
    (void)snprintf(body, sizeof body, "{\"request_id\": \"bench-%ld-%s\", \"team_id\": %ld, \"fresh\": true}",
                   (long)getpid(), id, load->first_team + number % load->teams);
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG |
                  AMQP_BASIC_REPLY_TO_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
        .correlation_id = amqp_cstring_bytes(id),
        .reply_to = load->reply_to,
    };
    must(amqp_basic_publish(load->amqp, CHANNEL, amqp_cstring_bytes("portal"), amqp_cstring_bytes("request"), false,
                            false, &properties, amqp_cstring_bytes(body)) == AMQP_STATUS_OK,
         "publishing");
}

/* Waits until the broker has all `sent` messages: it confirms them one by one, or all up to one. */
static void await_confirms(const struct load *load, uint64_t *confirmed, uint64_t sent) {
    while (*confirmed < sent) {
        amqp_frame_t frame;
        must(amqp_simple_wait_frame(load->amqp, &frame) == AMQP_STATUS_OK, "waiting for a confirm");
        must(frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == AMQP_BASIC_ACK_METHOD, "a confirm");
        const amqp_basic_ack_t *ack = frame.payload.method.decoded;
        if (ack->multiple)
            *confirmed = ack->delivery_tag;
        else
            (*confirmed)++;
        amqp_maybe_release_buffers(load->amqp);
    }
}

/* The number of the request that the next reply answers. */
static long await_reply(const struct load *load) {
    amqp_envelope_t envelope;
    amqp_maybe_release_buffers(load->amqp);
    must(amqp_consume_message(load->amqp, &envelope, NULL, 0).reply_type == AMQP_RESPONSE_NORMAL,
         "waiting for a reply");
    char id[32] = "";
    amqp_bytes_t correlation_id = envelope.message.properties.correlation_id;
    must(correlation_id.len < sizeof id, "a reply's correlation id");
    memcpy(id, correlation_id.bytes, correlation_id.len);
    long number = strtol(id, NULL, 10);
    must(number >= 0 && number < load->count, "a reply's correlation id");
    amqp_destroy_envelope(&envelope);
    return number;
}

static void drain(struct load *load) {
    uint64_t confirmed = 0;
    must(amqp_confirm_select(load->amqp, CHANNEL) != NULL, "asking for confirms");
    for (long number = 0; number < load->count; number++) {
        publish(load, number);
        if (number % UNCONFIRMED_MAX == UNCONFIRMED_MAX - 1 || number == load->count - 1)
            await_confirms(load, &confirmed, (uint64_t)number + 1);
    }
    must(puts("queued") >= 0 && fflush(stdout) == 0, "writing");

    double first = 0;
    double last = 0;
    long replies = 0;
    for (long left = load->count; left > 0; replies++) {
        bool *answered = &load->answered[await_reply(load)];
        last = now();
        first = first > 0 ? first : last;
        left -= !*answered;
        *answered = true;
    }
    must(printf("{\"replies\": %ld, \"seconds\": %.6f}\n", replies, last - first) > 0, "writing");
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static void latency(struct load *load) {
    double *seconds = calloc((size_t)load->count, sizeof *seconds);
    must(seconds != NULL, "memory for the times");
    for (long number = 0; number < load->count; number++) {
        double began = now();
        publish(load, number);
        must(await_reply(load) == number, "replies in order");
        seconds[number] = now() - began;
    }
    qsort(seconds, (size_t)load->count, sizeof *seconds, compare);
    must(printf("{\"median_ms\": %.3f, \"p99_ms\": %.3f}\n", seconds[load->count / 2] * 1e3,
                seconds[load->count * 99 / 100] * 1e3) > 0,
         "writing");
    free(seconds);
}

int main(int argc, char **argv) {
    must(argc == 5, "reading the arguments: load drain|latency N FIRST TEAMS");
    struct load load = {.count = strtol(argv[2], NULL, 10),
                        .first_team = strtol(argv[3], NULL, 10),
                        .teams = strtol(argv[4], NULL, 10)};
    must(load.count > 0 && load.teams > 0, "reading the arguments");
    load.answered = calloc((size_t)load.count, sizeof *load.answered);
    must(load.answered != NULL, "memory for the replies");
    connect_to(&load, getenv("AMQP_URL"));
    if (strcmp(argv[1], "latency") == 0)
        latency(&load);
    else
        drain(&load);
    amqp_bytes_free(load.reply_to);
    free(load.answered);
    (void)amqp_destroy_connection(load.amqp);
    return 0;
}
