/* reply-print.h — replies for people, and what they mean for the exit status. */
#pragma once

#include <amqp.h>
#include <jansson.h>
#include <stdio.h>

/* A reply's body as JSON: the caller's; NULL where it is none of the contract's. */
json_t *reply_read(amqp_bytes_t body);

/* "created", …, "failed"; "?" where there is none. */
const char *reply_outcome(const json_t *reply);

/* The code of the redirect or error, or NULL. */
const char *reply_code(const json_t *reply);

/* CTL_DONE, CTL_REDIRECT, CTL_REFUSED or CTL_RETRYABLE. */
int reply_status(const json_t *reply);

/* Some lines that say what came of a request. */
void reply_print(FILE *out, const json_t *reply);

/* Puts "redacted" in the place of the session's URL. */
void reply_redact(json_t *reply);
