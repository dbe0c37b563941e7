/* amqp-url.h — an AMQP URL and its parts, as RabbitMQ's URI specification has them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct amqp_url {
    bool tls;               /* amqps:// */
    bool verify;            /* ?verify=verify_none makes it false: whoever answers is believed */
    int port;               /* default 5672, with TLS 5671 */
    const char *host;       /* default localhost; an IPv6 address without its brackets */
    const char *user;       /* default guest */
    const char *password;   /* default guest */
    const char *vhost;      /* default "/" */
    const char *cacertfile; /* ?cacertfile=…; NULL: the system's */
    char *buffer;           /* holds the texts above */
};

/* Result: 0, and `*url` is the caller's, freed with amqp_url_clear(); -ENOMEM; or -EINVAL with what would be right in
 * `error`, which never tells user or password. */
int amqp_url_parse(const char *text, struct amqp_url *url, char *error, size_t error_size);

/* Wipes the password and frees. */
void amqp_url_clear(struct amqp_url *url);
