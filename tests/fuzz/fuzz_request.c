/* fuzz_request.c — a message from anybody: request_read() takes or refuses it, and says why. The first line of the
 * input is the properties, as "reply_to|message_id|user_id|generation|deadline|timestamp"; the rest is the body. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portal/request.h"
#include "portal/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next property of the line, NULL where it is empty. */
static const char *next(char **line) {
    char *property = strsep(line, "|");
    return property && *property ? property : NULL;
}

static void check(int r, const struct request *request, const struct request_problem *problem) {
    json_t *text = r < 0 ? json_string(problem->message) : json_loads(request->ask, 0, NULL);
    if (!text) /* an error that can't be answered with, or an ask that is no JSON */
        abort();
    json_decref(text);
    if (r < 0 && (!problem->code || problem->message[0] == '\0'))
        abort();
    if (r == 0 && (request->request_id[0] == '\0' || (request->team_id <= 0 && request->user_id <= 0) ||
                   request->return_path[0] != '/' || request->return_path[1] == '/' || request->generation == 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char *const queues[] = {"portal.replies", "portal.replies.*", "amq.gen-*", NULL};
    static char *const senders[] = {"billing", NULL};
    struct request_rules rules = {.reply_queues = queues, .deadline_seconds = 900};
    const uint8_t *end = memchr(data, '\n', size);
    size_t first = end ? (size_t)(end - data) : 0;
    char *properties = strndup((const char *)data, first), *rest = properties;
    size_t body_length = size - first - (end ? 1 : 0);
    char *body = malloc(body_length + 1); /* of its own, so that reading past its end is seen */
    if (!properties || !body || body_length > DELIVERY_BODY_MAX) {
        free(properties);
        free(body);
        return 0;
    }
    memcpy(body, data + size - body_length, body_length);
    text_make_utf8(properties); /* as the broker link does */
    struct delivery delivery = {.body = body, .body_length = body_length, .body_size = body_length};
    delivery.reply_to = next(&rest);
    delivery.message_id = next(&rest);
    delivery.user_id = next(&rest);
    delivery.generation = next(&rest);
    delivery.deadline = next(&rest);
    const char *timestamp = next(&rest);
    delivery.timestamp = timestamp ? strtoull(timestamp, NULL, 10) : 0;
    rules.team_senders = delivery.user_id ? senders : NULL;

    struct request request;
    struct request_problem problem;
    check(request_read(&delivery, &rules, UINT64_C(1700000000000000), &request, &problem), &request, &problem);
    request_clear(&request);
    free(request_properties(&delivery));
    free(properties);
    free(body);
    return 0;
}
