/* fuzz_replay.c — a line of a replay file: read, or refused with a word; what was read makes AMQP properties, and
 * written again it is the same request. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../worker/ctl/amqp-json.h"
#include "../../worker/ctl/replay-line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_properties(const json_t *json) {
    amqp_basic_properties_t properties = {0};
    amqp_pool_t pool;
    init_amqp_pool(&pool, 4096);
    if (amqp_from_json(json, &properties, &pool) != 0)
        abort();
    empty_amqp_pool(&pool);
}

/* Whether two bodies mean the same: as JSON where they are objects, else byte for byte. */
static bool is_same(const char *a, size_t a_length, const char *b, size_t b_length) {
    if (a_length == b_length && memcmp(a, b, a_length) == 0)
        return true;
    json_t *one = json_loadb(a, a_length, JSON_REJECT_DUPLICATES, NULL);
    json_t *other = json_loadb(b, b_length, JSON_REJECT_DUPLICATES, NULL);
    bool same = json_is_object(one) && json_equal(one, other);
    json_decref(one);
    json_decref(other);
    return same;
}

/* Without a URL in it, which is cut, a body survives being written, and so do properties. */
static void check_written(const struct replay_line *line) {
    json_t *properties = line->properties ? json_deep_copy(line->properties) : json_object();
    char *text = replay_line_write(line->body, line->body_length, properties, NULL);
    struct replay_line again = {0};
    char error[512];
    size_t length = 0;
    char *redacted = replay_redact(line->body, line->body_length, &length);
    if (!text || !redacted || replay_line_read(&again, text, strlen(text), NULL, error, sizeof error) != 1)
        abort();
    bool has_url = memmem(again.body, again.body_length, "/redacted", strlen("/redacted")) ||
                   length != line->body_length || memcmp(redacted, line->body, length) != 0;
    if (!has_url && !is_same(line->body, line->body_length, again.body, again.body_length))
        abort();
    char *kept = json_dumps(again.properties ? again.properties : line->properties, JSON_ENCODE_ANY);
    if (line->properties && json_object_size(line->properties) > 0 && !json_equal(line->properties, again.properties) &&
        !(kept && strstr(kept, "/redacted")))
        abort();
    free(kept);
    replay_line_clear(&again);
    free(redacted);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const runs[] = {NULL, "a1b2c3d4"};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct replay_line line;
        char error[512] = "";
        int r = replay_line_read(&line, (const char *)data, size, runs[i], error, sizeof error);
        if ((r == -EINVAL) != (error[0] != '\0') || (r < 0 && r != -EINVAL) || (r > 0) != (line.body != NULL && r == 1))
            abort();
        if (r > 0 && line.properties)
            check_properties(line.properties);
        if (r > 0)
            check_written(&line);
        replay_line_clear(&line);
    }
    return 0;
}
