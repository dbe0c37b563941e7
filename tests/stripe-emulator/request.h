/* One request in hand, from its first line to its answer. */
#pragma once

#include "answer.h"
#include "faults.h"

struct MHD_Connection;
struct endpoint;

enum request_phase {
    REQUEST_READING,  /* its body arrives */
    REQUEST_DELAYED,  /* a fault holds it until its time */
    REQUEST_ANSWERED, /* `answer` is what to send */
};

struct request {
    /* From the server. Strings of headers belong to libmicrohttpd and live as long as the request. */
    struct MHD_Connection *connection;
    const char *method;
    char *path;  /* owned, decoded */
    char *query; /* owned, as sent */
    char *body;  /* owned, at most REQUEST_BODY_MAX bytes and a NUL */
    size_t body_length;
    bool too_long; /* the body was longer, and is not there */
    bool secure;
    const char *host;
    const char *authorization;
    const char *idempotency_key;
    const char *version;
    const char *content_type;

    /* What becomes of it. */
    enum request_phase phase;
    const struct endpoint *endpoint; /* NULL: none that Stripe has */
    const char *id;                  /* the object in the path, or NULL */
    double time;                     /* of arrival, seconds since 1970 */
    uint64_t call;                   /* its number in the log of calls */
    json_t *parameters;              /* checked and typed; owned, may be NULL */
    char *fingerprint;               /* method, path and parameters, for idempotency; owned, may be NULL */
    struct fault_effect fault;       /* what a fault does to it */
    bool executes;                   /* it passed all checks, and its endpoint is still to run */
    bool saves;                      /* its answer is kept under its idempotency key */
    char effect[48];                 /* the id of the object it made or changed */
    struct answer answer;
};

enum {
    REQUEST_BODY_MAX = 256 * 1024,
    REQUEST_KEY_MAX = 255, /* characters of an idempotency key, docs.stripe.com/api/idempotent_requests */
};

/* Where this request reached the emulator, such as http://127.0.0.1:8000. The caller frees it. */
char *request_base(const struct request *request);

/* Seconds since 1970. */
double request_now(void);

/* Frees all it owns, and itself. */
void request_free(struct request *request);
