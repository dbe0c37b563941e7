/* The HTTP and HTTPS side: libmicrohttpd's connections turned into requests, and answers into bytes. */
#include "server.h"

#include "admin.h"
#include "emulator.h"
#include "form.h"
#include "pages.h"
#include "request.h"
#include "stripe.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct server {
    struct emulator *emulator;
    struct MHD_Daemon *daemon;
    bool secure;
    char *url;
};

/* --- answers --- */

static void server_header(struct MHD_Response *response, const char *name, const char *value) {
    if (value && *value) {
        /* A value that is no header (an idempotency key of odd bytes) is left out. */
        (void)MHD_add_response_header(response, name, value);
    }
}

/* Gives the first half of the text it is about, and then breaks off. */
struct server_half {
    size_t length;
    char text[];
};

static ssize_t server_read_half(void *context, uint64_t position, char *buffer, size_t size) {
    const struct server_half *half = context;
    size_t left = half->length - (size_t)position;

    if (left == 0) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    size_t count = left < size ? left : size;

    memcpy(buffer, half->text + position, count);
    return (ssize_t)count;
}

static struct MHD_Response *server_response(struct answer *answer) {
    size_t length = strlen(answer->body);
    struct MHD_Response *response;

    if (answer->transport == ANSWER_HALF) {
        struct server_half *half = memory_get(sizeof *half + length / 2);

        half->length = length / 2;
        memcpy(half->text, answer->body, half->length);
        response = MHD_create_response_from_callback(length, 4096, server_read_half, half, free);
        if (!response) {
            free(half);
        }
        return response;
    }
    response = MHD_create_response_from_buffer(length, answer->body, MHD_RESPMEM_MUST_FREE);
    if (response) {
        answer->body = NULL;
    }
    return response;
}

/* Disconnecting a TCP socket resets its connection at once (connect(2), AF_UNSPEC); closing it would say FIN first. */
static enum MHD_Result server_reset(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

    if (info) {
        (void)connect(info->connect_fd, &nowhere, sizeof nowhere);
    }
    return MHD_NO;
}

static void server_headers(struct MHD_Response *response, const struct request *request) {
    const struct answer *answer = &request->answer;

    server_header(response, "Content-Type", answer->content_type);
    server_header(response, "Retry-After", answer->retry_after);
    server_header(response, "Stripe-Should-Retry", answer->should_retry);
    server_header(response, "Stripe-Rate-Limited-Reason", answer->rate_limited_reason);
    if (answer->request_id[0]) {
        server_header(response, "Request-Id", answer->request_id);
        server_header(response, "Stripe-Version", request->version ? request->version : stripe_version);
        server_header(response, "Idempotency-Key", request->idempotency_key);
        server_header(response, "Original-Request", answer->original_request);
        server_header(response, "Idempotent-Replayed", answer->replayed ? "true" : "");
    }
    if (answer->status == 401) {
        server_header(response, "WWW-Authenticate", "Bearer realm=\"Stripe\"");
    }
}

static enum MHD_Result server_send(struct request *request) {
    struct MHD_Response *response = server_response(&request->answer);

    if (!response) {
        return MHD_NO;
    }
    server_headers(response, request);
    enum MHD_Result result = MHD_queue_response(request->connection, request->answer.status, response);

    MHD_destroy_response(response);
    return result;
}

/* --- requests --- */

static void server_take_body(struct request *request, const char *data, size_t size) {
    if (request->too_long || request->body_length + size > REQUEST_BODY_MAX) {
        request->too_long = true;
        free(request->body);
        request->body = NULL;
        request->body_length = 0;
        return;
    }
    request->body = memory_resize(request->body, request->body_length + size + 1);
    memcpy(request->body + request->body_length, data, size);
    request->body_length += size;
    request->body[request->body_length] = '\0';
}

static const char *server_lookup(struct MHD_Connection *connection, const char *name) {
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static void server_take_head(const struct server *server, struct request *request, struct MHD_Connection *connection,
                             const char *method) {
    const char *host = server_lookup(connection, "Host");

    request->connection = connection;
    request->method = method;
    request->secure = server->secure;
    /* The URLs that are handed out lead to where the request came in, whatever that is called from there. */
    request->host = host && *host && !strpbrk(host, "/<>\"' ?#@\\") ? host : strstr(server->url, "//") + 2;
    request->authorization = server_lookup(connection, "Authorization");
    request->idempotency_key = server_lookup(connection, "Idempotency-Key");
    request->version = server_lookup(connection, "Stripe-Version");
    request->content_type = server_lookup(connection, "Content-Type");
}

static void server_work(struct emulator *emulator, struct request *request) {
    if (strncmp(request->path, "/_emulator/", 11) == 0) {
        admin_answer(emulator, request);
    } else if (strncmp(request->path, "/p/", 3) == 0 && strcmp(request->method, "GET") == 0) {
        pages_answer(emulator, request);
    } else {
        stripe_arrive(emulator, request);
    }
}

/* Called when a request's head is there, for each part of its body, when all is there, and after a suspension. */
static enum MHD_Result server_handle(void *context, struct MHD_Connection *connection, const char *path,
                                     const char *method, const char *version, const char *data, size_t *size,
                                     void **state) {
    struct server *server = context;
    struct request *request = *state;

    (void)path;
    (void)version;
    if (!request->connection) {
        server_take_head(server, request, connection, method);
        return MHD_YES;
    }
    if (*size > 0) {
        server_take_body(request, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (request->phase == REQUEST_READING) {
        server_work(server->emulator, request);
    }
    if (request->phase == REQUEST_DELAYED) {
        if (timers_delay(&server->emulator->timers, request, request->fault.delay)) {
            return MHD_YES;
        }
        return server_reset(connection);
    }
    if (request->answer.transport == ANSWER_HANG && timers_hold(&server->emulator->timers, request)) {
        return MHD_YES;
    }
    if (request->answer.transport == ANSWER_RESET || request->answer.transport == ANSWER_HANG) {
        return server_reset(connection);
    }
    return server_send(request);
}

/* libmicrohttpd decodes the URI and splits its query; the emulator wants them as they came, so it takes them here. */
static void *server_begin_request(void *context, const char *uri, struct MHD_Connection *connection) {
    struct request *request = memory_get(sizeof *request);
    char *query;

    (void)context;
    (void)connection;
    request->path = memory_copy(uri);
    query = strchr(request->path, '?');
    if (query) {
        *query = '\0';
        request->query = memory_copy(query + 1);
    }
    /* A NUL in a path names nothing: the path is cut there, and not found. */
    (void)form_decode(request->path, 0);
    return request;
}

static void server_end_request(void *context, struct MHD_Connection *connection, void **state,
                               enum MHD_RequestTerminationCode why) {
    (void)context;
    (void)connection;
    (void)why;
    request_free(*state);
    *state = NULL;
}

static void server_count(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_ConnectionNotificationCode what) {
    struct connection_counters *connections = &((struct server *)context)->emulator->connections;

    (void)connection;
    (void)state;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        atomic_fetch_sub(&connections->now, 1);
        return;
    }
    long now = atomic_fetch_add(&connections->now, 1) + 1;
    long peak = atomic_load(&connections->peak);

    atomic_fetch_add(&connections->total, 1);
    while (now > peak && !atomic_compare_exchange_weak(&connections->peak, &peak, now)) {
    }
}

/* --- listening --- */

static int server_bind(const struct addrinfo *address) {
    int on = 1;
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, SERVER_BACKLOG) < 0) {
        int r = -errno;

        (void)close(fd);
        return r;
    }
    return fd;
}

/* Splits HOST:PORT in place; brackets around an IPv6 address are taken off. */
static int server_split(char *address, char **host, char **port) {
    char *colon = strrchr(address, ':');
    size_t length;

    if (!colon || colon == address || !colon[1]) {
        return -EINVAL;
    }
    *colon = '\0';
    *port = colon + 1;
    *host = address;
    length = strlen(address);
    if (address[0] == '[' && address[length - 1] == ']') {
        address[length - 1] = '\0';
        *host = address + 1;
    }
    return 0;
}

static int server_listen(const char *given, char **error) {
    _cleanup_free_ char *address = memory_copy(given);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char *host;
    char *port;

    if (server_split(address, &host, &port) < 0) {
        *error = memory_format("%s: not HOST:PORT", given);
        return -EINVAL;
    }
    int r = getaddrinfo(host, port, &hints, &found);

    if (r != 0) {
        *error = memory_format("%s: %s", given, gai_strerror(r));
        return -EINVAL;
    }
    int fd = server_bind(found);

    freeaddrinfo(found);
    if (fd < 0) {
        *error = memory_format("%s: %s", given, strerror(-fd));
    }
    return fd;
}

static char *server_name(int fd, bool secure) {
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];

    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
        getnameinfo((struct sockaddr *)&address, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return memory_copy("http://unknown");
    }
    bool six = address.ss_family == AF_INET6;

    return memory_format("%s://%s%s%s:%s", secure ? "https" : "http", six ? "[" : "", host, six ? "]" : "", port);
}

static struct MHD_Daemon *server_daemon(struct server *server, const struct server_options *options, int fd) {
    const struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)options->certificate},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)options->key},
        {MHD_OPTION_END, 0, NULL},
    };
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;

    return MHD_start_daemon(flags | (options->certificate ? MHD_USE_TLS : 0), 0, NULL, NULL, server_handle, server,
                            MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE, options->threads,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)SERVER_CONNECTIONS_MAX, MHD_OPTION_URI_LOG_CALLBACK,
                            server_begin_request, server, MHD_OPTION_NOTIFY_COMPLETED, server_end_request, server,
                            MHD_OPTION_NOTIFY_CONNECTION, server_count, server, MHD_OPTION_ARRAY,
                            options->certificate ? tls : none, MHD_OPTION_END);
}

struct server *server_start(struct emulator *emulator, const struct server_options *options, char **error) {
    int fd = server_listen(options->address, error);

    if (fd < 0) {
        return NULL;
    }
    struct server *server = memory_get(sizeof *server);

    server->emulator = emulator;
    server->secure = options->certificate != NULL;
    server->url = server_name(fd, server->secure);
    server->daemon = server_daemon(server, options, fd);
    if (!server->daemon) {
        *error = memory_format("%s: libmicrohttpd does not start%s", options->address,
                               server->secure ? "; are the certificate and the key right?" : "");
        (void)close(fd);
        free(server->url);
        free(server);
        return NULL;
    }
    return server;
}

const char *server_url(const struct server *server) {
    return server->url;
}

void server_stop(struct server *server) {
    if (server) {
        MHD_stop_daemon(server->daemon);
        free(server->url);
        free(server);
    }
}
