/* amqp-url.c — takes an AMQP URL apart (https://www.rabbitmq.com/docs/uri-spec and …/uri-query-parameters).
 *
 * Not with amqp_parse_url(): it refuses every percent-encoded byte above 127, which passwords do have, and knows no
 * query. */
#include "amqp-url.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int refuse(char *error, size_t error_size, const char *why) {
    (void)snprintf(error, error_size, "%s", why);
    return -EINVAL;
}

static int hexadecimal(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

/* RFC 3986 §2.1, in place; a NUL can't be part of anything here. */
static bool percent_decode(char *text) {
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int high = hexadecimal(from[1]);
        int low = high < 0 ? -1 : hexadecimal(from[2]);
        if (low < 0 || high + low == 0)
            return false;
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return true;
}

/* Cuts `text` at the first `delimiter` and returns what follows it, or NULL. */
static char *cut(char *text, char delimiter) {
    char *at = strchr(text, delimiter);
    if (at)
        *at++ = '\0';
    return at;
}

static int parse_port(const char *text, int *port) {
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || value < 1 || value > 65535)
        return -EINVAL;
    *port = (int)value;
    return 0;
}

static int parse_host(struct amqp_url *url, char *text, char *error, size_t error_size) {
    char *port = NULL;
    if (*text == '[') {
        char *after = cut(text, ']');
        if (!after || (*after != '\0' && *after != ':'))
            return refuse(error, error_size, "an IPv6 address is written [::1], a port after it :5672");
        url->host = text + 1;
        port = *after == ':' ? after + 1 : NULL;
    } else {
        port = cut(text, ':');
        if (*text != '\0')
            url->host = text;
    }
    if (port && *port != '\0' && parse_port(port, &url->port) < 0)
        return refuse(error, error_size, "the port is a number from 1 to 65535");
    return 0;
}

static int parse_user(struct amqp_url *url, char *text, char *error, size_t error_size) {
    char *password = cut(text, ':');
    if (!percent_decode(text) || (password && !percent_decode(password)))
        return refuse(error, error_size, "after % in user or password come two hexadecimal digits, not 00");
    url->user = text;
    if (password)
        url->password = password;
    return 0;
}

static int parse_parameter(struct amqp_url *url, char *name, char *error, size_t error_size) {
    char *value = cut(name, '=');
    if (!value || !percent_decode(value))
        return refuse(error, error_size, "what follows ? is name=value, several joined by &");
    if (strcmp(name, "cacertfile") == 0 && *value != '\0')
        url->cacertfile = value;
    else if (strcmp(name, "verify") == 0 && strcmp(value, "verify_peer") == 0)
        url->verify = true;
    else if (strcmp(name, "verify") == 0 && strcmp(value, "verify_none") == 0)
        url->verify = false;
    else
        return refuse(error, error_size,
                      "after ? only cacertfile=PATH and verify=verify_peer or verify_none are known");
    if (!url->tls)
        return refuse(error, error_size, "cacertfile and verify need amqps://");
    return 0;
}

static int parse_rest(struct amqp_url *url, char *authority, char *error, size_t error_size) {
    char *query = cut(authority, '?');
    char *vhost = cut(authority, '/');

    /* A path of "/" alone would be a virtual host without a name; like most clients, take it for the default one. */
    if (vhost && *vhost != '\0') {
        if (strchr(vhost, '/') || !percent_decode(vhost))
            return refuse(error, error_size, "in the virtual host's name / is written %2F, and % is %25");
        url->vhost = vhost;
    }

    char *host = authority;
    char *at = strrchr(authority, '@');
    if (at) {
        *at = '\0';
        host = at + 1;
        int r = parse_user(url, authority, error, error_size);
        if (r < 0)
            return r;
    }
    int r = parse_host(url, host, error, error_size);
    while (r >= 0 && query) {
        char *parameter = query;
        query = cut(query, '&');
        r = parse_parameter(url, parameter, error, error_size);
    }
    return r;
}

/* AMQP 0-9-1 has room for 255 bytes of a virtual host's name; the rest is held to the same. */
static bool too_long(const struct amqp_url *url) {
    const char *parts[] = {url->host, url->user, url->password, url->vhost};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strlen(parts[i]) > 255)
            return true;
    return false;
}

int amqp_url_parse(const char *text, struct amqp_url *url, char *error, size_t error_size) {
    assert(text && url && error && error_size > 0);
    *url = (struct amqp_url){
        .verify = true, .port = 5672, .host = "localhost", .user = "guest", .password = "guest", .vhost = "/"};

    size_t scheme = 0;
    if (strncasecmp(text, "amqp://", 7) == 0)
        scheme = 7;
    else if (strncasecmp(text, "amqps://", 8) == 0)
        scheme = 8;
    else
        return refuse(error, error_size, "it is amqp://USER:PASSWORD@HOST:PORT/VHOST, or with TLS amqps://…");
    if (scheme == 8) {
        url->tls = true;
        url->port = 5671;
    }
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == '#' || *c == 0x7f)
            return refuse(error, error_size, "spaces, # and control characters are percent-encoded: # is %23");

    url->buffer = strdup(text + scheme);
    if (!url->buffer)
        return -ENOMEM;
    int r = parse_rest(url, url->buffer, error, error_size);
    if (r >= 0 && too_long(url))
        r = refuse(error, error_size, "no part of it is longer than 255 bytes");
    if (r < 0)
        amqp_url_clear(url);
    return r;
}

void amqp_url_clear(struct amqp_url *url) {
    if (url->buffer && url->password >= url->buffer) {
        char *password = url->buffer + (url->password - url->buffer);
        explicit_bzero(password, strlen(password));
    }
    free(url->buffer);
    *url = (struct amqp_url){0};
}
