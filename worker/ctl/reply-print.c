/* reply-print.c — replies for people. */
#include "reply-print.h"

#include <inttypes.h>
#include <string.h>

#include "look.h"
#include "portalctl.h"

json_t *reply_read(amqp_bytes_t body) {
    json_t *reply = json_loadb(body.bytes ? body.bytes : "", body.len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_string(json_object_get(reply, "outcome")))
        return reply;
    json_decref(reply);
    return NULL;
}

const char *reply_outcome(const json_t *reply) {
    const char *outcome = json_string_value(json_object_get(reply, "outcome"));
    return outcome ? outcome : "?";
}

static const json_t *reason_of(const json_t *reply) {
    const json_t *redirect = json_object_get(reply, "redirect");
    return json_is_object(redirect) ? redirect : json_object_get(reply, "error");
}

const char *reply_code(const json_t *reply) {
    return json_string_value(json_object_get(reason_of(reply), "code"));
}

int reply_status(const json_t *reply) {
    const char *outcome = reply_outcome(reply);
    if (strcmp(outcome, "created") == 0 || strcmp(outcome, "reused") == 0)
        return CTL_DONE;
    if (strcmp(outcome, "redirect") == 0)
        return CTL_REDIRECT;
    return json_is_true(json_object_get(json_object_get(reply, "error"), "retryable")) ? CTL_RETRYABLE : CTL_REFUSED;
}

static void print_field(FILE *out, const char *label, const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    if (!text)
        return;
    fprintf(out, "  %-14s ", label);
    ctl_write_text(out, text);
    fputc('\n', out);
}

static void print_session(FILE *out, const json_t *session) {
    char time[TIMESTAMP_SIZE];
    char span[CTL_SPAN_SIZE];
    uint64_t now = ctl_wall() / 1000000;
    json_int_t expires = json_integer_value(json_object_get(session, "expires_at"));
    print_field(out, "url", session, "url");
    print_field(out, "session", session, "id");
    print_field(out, "customer", session, "customer");
    print_field(out, "configuration", session, "configuration");
    print_field(out, "comes back to", session, "return_url");
    if (expires <= 0)
        return;
    timestamp_format(time, (uint64_t)expires * 1000000, false);
    ctl_format_span(span, (uint64_t)expires > now ? (uint64_t)expires - now : 0);
    fprintf(out, "  %-14s %s (in %s)\n", "expires", time, span);
}

void reply_print(FILE *out, const json_t *reply) {
    const struct look look = look_of(out);
    const char *code = reply_code(reply);
    const json_t *session = json_object_get(reply, "session");
    const json_t *id = json_object_get(reply, "request_id");
    const json_t *generation = json_object_get(reply, "generation");
    fprintf(out, "%s", look_of_outcome(&look, reply_outcome(reply)));
    ctl_write_text(out, reply_outcome(reply));
    fputs(look.plain, out);
    if (code) {
        fputc(' ', out);
        ctl_write_text(out, code);
    }
    fprintf(out, " (%" PRId64 ")\n", (int64_t)json_integer_value(json_object_get(reply, "status")));
    if (json_is_object(session))
        print_session(out, session);
    print_field(out, "go to", json_object_get(reply, "redirect"), "url");
    print_field(out, "message", json_object_get(reply, "error"), "message");
    print_field(out, "Stripe request", json_object_get(reply, "error"), "stripe_request_id");
    if (json_is_string(id)) {
        fprintf(out, "  %-14s ", "request");
        ctl_write_text(out, json_string_value(id));
        if (json_is_integer(generation))
            fprintf(out, ", generation %" PRId64, (int64_t)json_integer_value(generation));
        fputc('\n', out);
    }
}

void reply_redact(json_t *reply) {
    json_t *session = json_object_get(reply, "session");
    if (json_is_string(json_object_get(session, "url")))
        (void)json_object_set_new(session, "url", json_string("redacted"));
}
