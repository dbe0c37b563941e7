/* replay-result.c — what came of the requests of a replay. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "amqp-json.h"
#include "portal/text.h"
#include "portalctl.h"
#include "replay-expect.h"
#include "replay.h"
#include "reply-print.h"

/* ---- marks ---- */

static char *copy(const char *text) {
    return text ? strdup(text) : NULL;
}

/* The request id, as far as it can be told. */
static char *id_of(const struct replay_line *line) {
    json_t *body = json_loadb(line->body, line->body_length, 0, NULL);
    const char *id = json_string_value(json_object_get(body, "request_id"));
    char *result = copy(id ? id : json_string_value(json_object_get(line->properties, "message_id")));
    json_decref(body);
    return result;
}

struct replay_mark *replay_mark_new(const struct replay *replay, const struct replay_line *line) {
    struct replay_mark *mark = calloc(1, sizeof *mark);
    if (!mark)
        return NULL;
    *mark = (struct replay_mark){.file = replay->file, .line = replay->reader.line, .sent_at = ctl_monotonic()};
    if (!replay->options.check && !replay->options.json)
        return mark;
    mark->name = copy(line->name);
    mark->id = id_of(line);
    mark->expect = json_incref((json_t *)line->expect);
    return mark;
}

void replay_mark_free(struct replay_mark *mark) {
    if (!mark)
        return;
    free(mark->name);
    free(mark->id);
    json_decref(mark->expect);
    free(mark);
}

/* ---- judging ---- */

/* What another line may want to be the same as. */
static void remember(struct replay *replay, const char *name, const json_t *reply) {
    if (!name || (replay->wanted && !json_object_get(replay->wanted, name)) ||
        json_object_size(replay->replies) >= REPLAY_NAMES_MAX)
        return;
    (void)json_object_set_new(replay->replies, name,
                              json_pack("{so? so? so?}", "session", json_deep_copy(json_object_get(reply, "session")),
                                        "redirect", json_deep_copy(json_object_get(reply, "redirect")), "error",
                                        json_deep_copy(json_object_get(reply, "error"))));
}

static void judge(struct replay *replay, const struct replay_mark *mark, enum dialogue_end end, const json_t *reply,
                  const struct wire_message *message, struct text *found) {
    const json_t *wanted = json_object_get(mark->expect, "reply");
    const json_t *properties = json_object_get(mark->expect, "properties");
    const char *same_as = json_string_value(json_object_get(mark->expect, "same_as"));
    bool none = json_is_null(wanted);
    if (end == DIALOGUE_LATE && !none)
        text_append(found, "no reply came");
    else if (end == DIALOGUE_ANSWERED && none)
        text_append(found, "a reply came, expected none");
    else if (end == DIALOGUE_ANSWERED && !reply)
        text_append(found, "the reply is none of the contract");
    if (end != DIALOGUE_ANSWERED || found->length > 0)
        return;
    if (wanted)
        replay_differences(wanted, reply, "reply", found);
    if (properties) {
        json_t *actual = amqp_to_json(&message->properties);
        replay_differences(properties, actual, "properties", found);
        json_decref(actual);
    }
    const json_t *other = same_as ? json_object_get(replay->replies, same_as) : NULL;
    if (same_as && !other)
        text_appendf(found, "%sno line before this one is called \"%s\"", found->length > 0 ? "; " : "", same_as);
    else if (other)
        replay_differences(other, reply, "reply", found);
    remember(replay, mark->name, reply);
}

/* ---- telling ---- */

static void count(struct replay *replay, const char *outcome, const char *code) {
    char name[sizeof replay->tallies[0].name];
    (void)snprintf(name, sizeof name, "%s%s%s", outcome, code ? " " : "", code ? code : "");
    size_t i = 0;
    while (i < REPLAY_TALLIES - 1 && *replay->tallies[i].name && strcmp(replay->tallies[i].name, name) != 0)
        i++;
    (void)snprintf(replay->tallies[i].name, sizeof name, "%s", name);
    replay->tallies[i].count++;
}

static void tell_json(const struct replay *replay, const struct replay_mark *mark, json_t *reply, uint64_t took_us,
                      const char *found) {
    if (!replay->options.show_url)
        reply_redact(reply);
    json_t *line =
        json_pack("{ss sI ss* ss* sO? sI}", "file", replay->files[mark->file], "line", (json_int_t)mark->line, "name",
                  mark->name, "request_id", mark->id, "reply", reply, "took_ms", (json_int_t)(took_us / 1000));
    if (line && replay->options.check)
        (void)json_object_set_new(line, "ok", json_boolean(!*found));
    if (line && *found)
        (void)json_object_set_new(line, "differences", json_string(found));
    (void)print_json(stdout, line);
    (void)fflush(stdout); /* whoever reads this may feed us */
    json_decref(line);
}

static void tell_row(struct replay *replay, const struct replay_mark *mark, const char *what, uint64_t took_us,
                     const char *found) {
    struct grid *grid = &replay->grid;
    grid_add(grid, *found ? "FAIL" : "ok", *found ? grid->look.red : grid->look.green);
    grid_addf(grid, NULL, "%s:%zu", replay->files[mark->file], mark->line);
    grid_add(grid, what, NULL);
    grid_addf(grid, NULL, "%" PRIu64 " ms", took_us / 1000);
    grid_add(grid, mark->name ? mark->name : mark->id, NULL);
    grid_add(grid, found, NULL);
}

void replay_done(void *userdata, struct dialogue_request *request, enum dialogue_end end,
                 const struct wire_message *message) {
    struct replay *replay = userdata;
    struct replay_mark *mark = request->mark;
    struct text differences = {0};
    json_t *reply = message ? reply_read(message->body) : NULL;
    const char *outcome = end == DIALOGUE_ANSWERED    ? reply_outcome(reply)
                          : end == DIALOGUE_SENT      ? "sent, answered elsewhere"
                          : end == DIALOGUE_TOO_LARGE ? "too large"
                                                      : "no reply";
    const char *code = reply_code(reply);
    uint64_t took = ctl_monotonic() - mark->sent_at;
    char what[128];

    if (replay->options.check)
        judge(replay, mark, end, reply, message, &differences);
    bool wrong = differences.length > 0;
    const char *found = wrong ? differences.data : "";
    bool expected_none = end == DIALOGUE_LATE && replay->options.check && !wrong;
    replay->done++;
    replay->wrong += wrong;
    replay->late += end == DIALOGUE_LATE && !expected_none;
    count(replay, expected_none ? "no reply, as expected" : outcome, code);
    (void)snprintf(what, sizeof what, "%s%s%s", outcome, code ? " " : "", code ? code : "");
    if (replay->options.json || replay->table)
        progress_clear(&replay->progress); /* it may be the same terminal */
    if (replay->options.json)
        tell_json(replay, mark, reply, took, found);
    else if (replay->table)
        tell_row(replay, mark, what, took, found);
    text_clear(&differences);
    json_decref(reply);
    replay_mark_free(mark);
    dialogue_request_free(request);
}

static void sum_up_json(const struct replay *replay, double seconds) {
    json_t *tallies = json_object();
    for (size_t i = 0; i < REPLAY_TALLIES && *replay->tallies[i].name; i++)
        (void)json_object_set_new(tallies, replay->tallies[i].name, json_integer((json_int_t)replay->tallies[i].count));
    json_t *whole = json_pack("{s{sI sI sI sf so}}", "summary", "requests", (json_int_t)replay->done, "unanswered",
                              (json_int_t)replay->late, "wrong", (json_int_t)replay->wrong, "seconds", seconds,
                              "outcomes", tallies);
    (void)print_json(stdout, whole);
    json_decref(whole);
}

void replay_sum_up(struct replay *replay) {
    double seconds = (double)(ctl_monotonic() - replay->progress.started_at) / 1e6;
    progress_clear(&replay->progress);
    if (replay->table)
        grid_end(&replay->grid);
    if (replay->options.json) {
        sum_up_json(replay, seconds);
        return;
    }
    printf("%" PRIu64 " request%s in %.1f s, %.0f/s\n", replay->done, replay->done == 1 ? "" : "s", seconds,
           seconds > 0 ? (double)replay->done / seconds : 0.0);
    for (size_t i = 0; i < REPLAY_TALLIES && *replay->tallies[i].name; i++)
        printf("  %10" PRIu64 "  %s\n", replay->tallies[i].count, replay->tallies[i].name);
    if (replay->options.check)
        printf("%" PRIu64 " as expected, %" PRIu64 " not\n", replay->done - replay->wrong, replay->wrong);
}

void replay_tell_rest(const struct replay *replay) {
    const struct replay_options *options = &replay->options;
    size_t next = replay->reader.line + (replay->status == CTL_BAD_FILE ? 0 : 1);
    size_t read = replay->file << 32 | next;
    size_t lowest = dialogue_lowest(&replay->dialogue, read);
    fprintf(stderr,
            "  %" PRIu64 " of the requests sent are answered. What is left:\n  portalctl replay --run %s --from %zu",
            replay->done, options->run, lowest & UINT32_MAX);
    if (options->rate > 0)
        fprintf(stderr, " --rate %g", options->rate);
    if (options->concurrency > 0)
        fprintf(stderr, " --concurrency %" PRIu64, options->concurrency);
    if (options->deadline)
        fprintf(stderr, " --deadline %s", options->deadline);
    if (options->wait_seconds != REPLAY_WAIT_SECONDS)
        fprintf(stderr, " --timeout %" PRIu64 "s", options->wait_seconds);
    fprintf(stderr, "%s%s%s", options->check ? " --check" : "", options->json ? " --json" : "",
            options->show_url ? " --show-url" : "");
    for (size_t i = lowest >> 32; replay->files[i]; i++) {
        fputc(' ', stderr);
        ctl_write_text(stderr, replay->files[i]);
    }
    fputc('\n', stderr);
}
