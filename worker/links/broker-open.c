/* broker-open.c — opens one connection to RabbitMQ: address, socket, TLS, login, channel. It blocks, so it runs on a
 * helper thread, and it shares nothing with the loop. */
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "broker-internal.h"

/* What RabbitMQ has by default. A larger one is not asked for: the library decodes tables by recursion, and what is
 * nested in a frame of this size costs 2.3 MB of stack (seen), in one eight times as large it overflows. */
static const int FRAME_MAX = 131072;

/* The broker adds headers (x-delivery-count, x-death) to a message whose header frame was as long as allowed, and sends
 * it on longer than that. The library would give up the connection over it, again and again. */
static const int FRAME_SLACK = 65536;

/* With a third of it free the kernel says POLLOUT (sk_stream_is_writeable()): room for the longest message, which is
 * under 64 KiB, with the kernel's overhead. */
static const int SEND_BUFFER = 212992;

static const char SYSTEM_CERTIFICATES[] = "/etc/ssl/certs/ca-certificates.crt";

static void copy_text(char *to, size_t size, amqp_bytes_t bytes) {
    (void)snprintf(to, size, "%.*s", (int)(bytes.len < size ? bytes.len : size - 1), (const char *)bytes.bytes);
}

void reply_explain(const amqp_rpc_reply_t *reply, char reason[static REASON_MAX]) {
    char words[256] = ""; /* a short string */
    unsigned code = 0;
    if (reply->reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) {
        (void)snprintf(reason, REASON_MAX, "%s", amqp_error_string2(reply->library_error));
        return;
    }
    if (reply->reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = reply->reply.decoded;
        code = close->reply_code;
        copy_text(words, sizeof words, close->reply_text);
    } else if (reply->reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = reply->reply.decoded;
        code = close->reply_code;
        copy_text(words, sizeof words, close->reply_text);
    }
    (void)snprintf(reason, REASON_MAX, "%u %s", code, words);
}

/* The opening failed: says where, what and why. */
static int opening_fail(struct opening *opening, int error, const char *what, const char *why) {
    (void)snprintf(opening->cause, sizeof opening->cause, "AMQP_URL: RabbitMQ at %s:%d %s%s%s", opening->url.host,
                   opening->url.port, what, *why ? ": " : "", why);
    opening->error = error;
    return error;
}

static int opening_fail_reply(struct opening *opening, const char *what, amqp_rpc_reply_t reply) {
    char why[REASON_MAX];
    reply_explain(&reply, why);
    return opening_fail(opening, -EPROTO, what, why);
}

static int open_tls(struct opening *opening, amqp_socket_t **ret) {
    amqp_socket_t *socket = amqp_ssl_socket_new(opening->amqp);
    if (!socket)
        return opening_fail(opening, -ENOMEM, "can't be reached over TLS", "no memory");
    amqp_ssl_socket_set_verify_peer(socket, opening->url.verify);
    amqp_ssl_socket_set_verify_hostname(socket, opening->url.verify);
    if (amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST) != AMQP_STATUS_OK)
        return opening_fail(opening, -ENOTSUP, "can't be reached over TLS", "no TLS 1.2");
    const char *certificates = opening->url.cacertfile ? opening->url.cacertfile : SYSTEM_CERTIFICATES;
    if (opening->url.verify && amqp_ssl_socket_set_cacert(socket, certificates) != AMQP_STATUS_OK)
        return opening_fail(opening, -ENOENT, "can't be verified, there are no certificates in", certificates);
    *ret = socket;
    return 0;
}

/* TCP_USER_TIMEOUT: what nobody acknowledges for that long ends the connection (tcp(7)). Nothing here is worth failing
 * for, but a broker that vanished would be noticed later. */
static int tune_socket(struct opening *opening) {
    int fd = amqp_get_sockfd(opening->amqp);
    uint32_t heartbeat = opening->settings.heartbeat_seconds;
    unsigned timeout_ms = (heartbeat > 0 ? 2 * heartbeat : 30) * 1000;
    int on = 1;
    int idle = 15;
    int interval = 5;
    int probes = 3;
    unsigned unsent = INT32_MAX; /* whatever net.ipv4.tcp_notsent_lowat says: POLLOUT is to speak for SO_SNDBUF */
    int r = setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &SEND_BUFFER, sizeof SEND_BUFFER);
    r |= setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    r |= setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    r |= setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    r |= setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    r |= setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    r |= setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    r |= setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    return r == 0 ? 0 : opening_fail(opening, -errno, "was reached, but its socket can't be set up", strerror(errno));
}

static int open_socket(struct opening *opening) {
    amqp_socket_t *socket = NULL;
    struct timeval timeout = {.tv_sec = opening->settings.connect_seconds};
    if (opening->url.tls) {
        int r = open_tls(opening, &socket);
        if (r < 0)
            return r;
    } else {
        socket = amqp_tcp_socket_new(opening->amqp);
        if (!socket)
            return opening_fail(opening, -ENOMEM, "can't be reached", "no memory");
    }
    int status = amqp_socket_open_noblock(socket, opening->url.host, opening->url.port, &timeout);
    if (status == AMQP_STATUS_SOCKET_ERROR)
        return opening_fail(opening, -ECONNREFUSED, "can't be reached", "connection refused, or no route to it");
    if (status == AMQP_STATUS_TIMEOUT)
        return opening_fail(opening, -ETIMEDOUT, "can't be reached", "no answer in time");
    if (status == AMQP_STATUS_SSL_PEER_VERIFY_FAILED)
        return opening_fail(opening, -EKEYREJECTED, "has a certificate that is not trusted",
                            "?cacertfile=PATH names whom to trust");
    if (status == AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED)
        return opening_fail(opening, -EKEYREJECTED, "has a certificate for another name",
                            "name the host as the certificate does; addresses are not compared");
    if (status != AMQP_STATUS_OK)
        return opening_fail(opening, -ECONNREFUSED, "can't be reached", amqp_error_string2(status));
    return tune_socket(opening);
}

static int explain_login(struct opening *opening, amqp_rpc_reply_t reply) {
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION && reply.library_error == AMQP_STATUS_TIMEOUT)
        return opening_fail(opening, -ETIMEDOUT, "accepts connections, but does not answer in time", "");
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = reply.reply.decoded;
        if (close->reply_code == AMQP_ACCESS_REFUSED)
            return opening_fail_reply(opening, "refuses user or password", reply);
        if (close->reply_code == AMQP_NOT_ALLOWED)
            return opening_fail_reply(opening, "refuses the virtual host", reply);
    }
    return opening_fail_reply(opening, "refuses the login", reply);
}

static int login(struct opening *opening) {
    static const char *const roles[] = {
        [ROLE_CONSUME] = "requests", [ROLE_PUBLISH] = "replies", [ROLE_DIRECT] = "direct replies"};
    struct timeval timeout = {.tv_sec = opening->settings.connect_seconds};
    struct table capabilities = {.count = 0};
    struct table properties = {.count = 0};
    char name[sizeof opening->worker + 32];

    table_add_boolean(&capabilities, "consumer_cancel_notify", true);
    table_add_boolean(&capabilities, "connection.blocked", true);
    table_add_boolean(&capabilities, "publisher_confirms", true);
    table_add_boolean(&capabilities, "basic.nack", true);
    table_add_boolean(&capabilities, "authentication_failure_close", true);
    (void)snprintf(name, sizeof name, "%s (%s)", opening->worker, roles[opening->role]);
    table_add_text(&properties, "product", "portal-worker");
    table_add_text(&properties, "version", PORTAL_VERSION);
    table_add_text(&properties, "connection_name", name);
    table_add_table(&properties, "capabilities", table_view(&capabilities));
    amqp_table_t client = table_view(&properties);

    if (amqp_set_handshake_timeout(opening->amqp, &timeout) != AMQP_STATUS_OK ||
        amqp_set_rpc_timeout(opening->amqp, &timeout) != AMQP_STATUS_OK)
        return opening_fail(opening, -EINVAL, "can't be asked", "the time-out is wrong");
    amqp_rpc_reply_t reply =
        amqp_login_with_properties(opening->amqp, opening->url.vhost, 0, FRAME_MAX, opening->settings.heartbeat_seconds,
                                   &client, AMQP_SASL_METHOD_PLAIN, opening->url.user, opening->url.password);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        return explain_login(opening, reply);

    const amqp_table_t *server = amqp_get_server_properties(opening->amqp);
    amqp_bytes_t version = field_bytes(table_find(server, "version"));
    for (size_t i = 0; i < version.len && i < 4; i++) {
        char digit = ((const char *)version.bytes)[i];
        if (digit < '0' || digit > '9')
            break;
        opening->major_version = opening->major_version * 10 + (unsigned)(digit - '0');
    }
    return 0;
}

/* The library sends heartbeats inside its calls, where a full socket makes it wait; and it reads them unseen. So it is
 * told that there are none, and the loop does both (AMQP 0-9-1 §4.2.7). An RPC has just returned: it is between two
 * frames, as amqp_tune_connection() wants it. */
static int take_over_heartbeat(struct opening *opening) {
    opening->heartbeat_seconds = (uint32_t)amqp_get_heartbeat(opening->amqp);
    if (!amqp_release_buffers_ok(opening->amqp) ||
        amqp_tune_connection(opening->amqp, amqp_get_channel_max(opening->amqp),
                             amqp_get_frame_max(opening->amqp) + FRAME_SLACK, 0) != AMQP_STATUS_OK)
        return opening_fail(opening, -ENOMEM, "was reached, but the connection can't be set up", "no memory");
    return 0;
}

static int open_channel(struct opening *opening) {
    amqp_channel_open(opening->amqp, CHANNEL);
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(opening->amqp);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        return opening_fail_reply(opening, "opens no channel", reply);
    if (opening->role == ROLE_CONSUME) {
        int r = topology_ensure(opening);
        if (r < 0) {
            opening->error = r;
            return r;
        }
        amqp_basic_qos(opening->amqp, CHANNEL, 0, opening->settings.prefetch, false);
        reply = amqp_get_rpc_reply(opening->amqp);
        if (reply.reply_type != AMQP_RESPONSE_NORMAL)
            return opening_fail_reply(opening, "refuses the prefetch", reply);
    } else {
        amqp_confirm_select(opening->amqp, CHANNEL);
        reply = amqp_get_rpc_reply(opening->amqp);
        if (reply.reply_type != AMQP_RESPONSE_NORMAL)
            return opening_fail_reply(opening, "refuses publisher confirms", reply);
    }
    return 0;
}

int opening_new(const struct broker_settings *settings, const char *url, enum role role, struct opening **ret,
                char cause[static CAUSE_MAX]) {
    struct opening *opening = calloc(1, sizeof *opening);
    if (!opening)
        return -ENOMEM;
    char error[256] = "";
    int r = amqp_url_parse(url, &opening->url, error, sizeof error);
    if (r < 0) {
        (void)snprintf(cause, CAUSE_MAX, "AMQP_URL: %s", r == -ENOMEM ? "no memory" : error);
        free(opening);
        return r;
    }
    opening->role = role;
    opening->settings = *settings;
    opening->settings.urls = NULL;
    opening->settings.worker = NULL;
    (void)snprintf(opening->worker, sizeof opening->worker, "%s",
                   settings->worker ? settings->worker : "portal-worker");
    *ret = opening;
    return 0;
}

void opening_run(void *argument) {
    struct opening *opening = argument;
    opening->amqp = amqp_new_connection();
    if (!opening->amqp) {
        (void)opening_fail(opening, -ENOMEM, "can't be reached", "no memory");
        return;
    }
    int r = open_socket(opening);
    if (r >= 0)
        r = login(opening);
    if (r >= 0)
        r = take_over_heartbeat(opening);
    if (r >= 0)
        r = open_channel(opening);
    if (r < 0) {
        (void)amqp_destroy_connection(opening->amqp);
        opening->amqp = NULL;
    }
}

void opening_free(void *argument) {
    struct opening *opening = argument;
    if (!opening)
        return;
    if (opening->amqp)
        (void)amqp_destroy_connection(opening->amqp);
    amqp_url_clear(&opening->url);
    free(opening);
}
