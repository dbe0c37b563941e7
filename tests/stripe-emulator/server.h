/* The HTTP and HTTPS side: libmicrohttpd's connections turned into requests, and answers into bytes. */
#pragma once

#include <stddef.h>

struct emulator;
struct server;

struct server_options {
    const char *address;     /* HOST:PORT, [HOST]:PORT; port 0: a free one */
    const char *certificate; /* PEM text, NULL: plain HTTP */
    const char *key;         /* PEM text */
    unsigned threads;        /* at least 2: libmicrohttpd's single epoll thread stalls at 256 connections */
};

enum {
    SERVER_CONNECTIONS_MAX = 8192, /* open at a time */
    SERVER_BACKLOG = 4096,         /* not yet accepted */
};

/* Starts to serve. Returns a server, or NULL with *error (the caller's to free) saying why. */
struct server *server_start(struct emulator *emulator, const struct server_options *options, char **error);

/* Such as http://127.0.0.1:43211. It belongs to the server. */
const char *server_url(const struct server *server);

/* Ends all connections and frees the server. Whatever hangs or waits must have been let go before (timers_end). */
void server_stop(struct server *server);
