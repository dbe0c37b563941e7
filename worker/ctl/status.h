/* status.h — what "portalctl status" finds out, and how it shows it. */
#pragma once

#include <jansson.h>

#include "ctl-store.h"
#include "wire.h"

enum { STATUS_MINUTES = 5, STATUS_SILENT_SECONDS = 35 /* three heartbeats */ };

/* The connections, kept over several looks. */
struct status_source {
    struct settings broker, store;                       /* of AMQP_URL, and of DATABASE_URL */
    char broker_error[WIRE_CAUSE_MAX], store_error[512]; /* why there are none */
    struct wire wire;
    PGconn *connection;
};

/* Reads the settings; each of the two may be missing, but not both. Result: 0 or an exit status. */
int status_open(struct status_source *source, int stop);
void status_close(struct status_source *source);

/* Looks at everything. Result: the caller's, an object as --json prints it; NULL without memory. */
json_t *status_look(struct status_source *source);

/* Shows it to a person. */
void status_print(FILE *out, const json_t *status);

/* CTL_DONE; CTL_UNAVAILABLE where something could not be asked; CTL_FAILED where no worker lives, or one is paused. */
int status_verdict(const json_t *status);
