/* message.c — what a message looks like when it is delivered: body, properties, headers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "world.h"

static const char *const reply_queues[REPLY_KINDS] = {
    [REPLY_DEFAULT] = NULL,
    [REPLY_NAMED] = "portal.replies.billing",
    [REPLY_DIRECT] = "amq.rabbitmq.reply-to.g2dkAA==.x",
    [REPLY_GONE] = "portal.replies.gone",
    [REPLY_FORBIDDEN] = "invoices",
};

/* Appends to a text of `size` bytes; what does not fit would be a mistake of the simulator. */
#define ADD(text, length, size, ...)                                                                                   \
    do {                                                                                                               \
        int added_ = snprintf((text) + (length), (size) - (length), __VA_ARGS__);                                      \
        if (added_ < 0 || (size_t)added_ >= (size) - (length))                                                         \
            abort();                                                                                                   \
        (length) += (size_t)added_;                                                                                    \
    } while (false)

static void write_time(char *text, size_t size, uint64_t microseconds) {
    time_t seconds = (time_t)(microseconds / SECOND_US);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || strftime(text, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        abort();
}

static uint64_t deadline_of(const struct message *message) {
    return WORLD_EPOCH * SECOND_US + message->sent_at + message->plan->deadline_seconds * SECOND_US;
}

static size_t add_flow(char *body, size_t length, size_t size, const struct sending *plan, unsigned team) {
    switch ((enum flow_kind)plan->ask.flow) {
    case FLOW_NONE:
    case FLOW_KINDS:
        break;
    case FLOW_PAYMENT:
        ADD(body, length, size, ",\"flow\":{\"type\":\"payment_method_update\"}");
        break;
    case FLOW_CANCEL:
        ADD(body, length, size,
            ",\"flow\":{\"type\":\"subscription_cancel\",\"subscription\":\"sub_%u\",\"after_completion\":"
            "{\"type\":\"redirect\",\"return_path\":\"/done\"}}",
            team);
        break;
    case FLOW_UPDATE:
        ADD(body, length, size, ",\"flow\":{\"type\":\"subscription_update\",\"subscription\":\"sub_%u\"}", team);
        break;
    case FLOW_CONFIRM:
        ADD(body, length, size,
            ",\"flow\":{\"type\":\"subscription_update_confirm\",\"subscription\":\"sub_%u\","
            "\"items\":[{\"id\":\"si_1\",\"price\":\"price_1\",\"quantity\":2}]}",
            team);
        break;
    case FLOW_WRONG:
        ADD(body, length, size, ",\"flow\":{\"type\":\"subscription_cancel\",\"subscription\":\"sub_wrong\"}");
        break;
    }
    return length;
}

/* One field that is wrong. It comes first, and what follows is right. */
static size_t add_invalid(char *body, size_t length, size_t size, enum invalid_kind invalid) {
    static const char *const fields[INVALID_KINDS] = {
        [INVALID_PATH] = "\"return_path\":\"//evil.example\",", [INVALID_LOCALE] = "\"locale\":\"xx\",",
        [INVALID_FLOW] = "\"flow\":{\"type\":\"nothing\"},",    [INVALID_FRESH] = "\"fresh\":\"yes\",",
        [INVALID_DEADLINE] = "\"deadline\":\"tomorrow\",",      [INVALID_ID] = "\"request_id\":\"not an id\",",
    };
    if (fields[invalid])
        ADD(body, length, size, "%s", fields[invalid]);
    return length;
}

static size_t add_ask(const struct world *world, char *body, size_t length, size_t size, const struct sending *plan) {
    const struct ask *ask = &plan->ask;
    unsigned team = ask->team > 0 || ask->user > USERS_MAX ? ask->team : world->scenario->user_teams[ask->user];
    if (ask->team > 0 && plan->invalid != INVALID_NO_ASKER)
        ADD(body, length, size, ",\"team_id\":%u", ask->team);
    if (ask->user > 0 && plan->invalid != INVALID_NO_ASKER)
        ADD(body, length, size, ",\"user_id\":%u", ask->user);
    if (plan->invalid != INVALID_PATH && ask->path > 0)
        ADD(body, length, size, ",\"return_path\":\"%s\"", scenario_paths[ask->path]);
    if (plan->invalid != INVALID_LOCALE && ask->locale > 0)
        ADD(body, length, size, ",\"locale\":\"%s\"", scenario_locales[ask->locale]);
    if (plan->invalid != INVALID_FLOW)
        length = add_flow(body, length, size, plan, team);
    if (ask->configuration != CHOSEN_NONE)
        ADD(body, length, size, ",\"configuration\":\"%s\"",
            ask->configuration == CHOSEN_ACTIVE ? "bpc_0" : "bpc_9999");
    return length;
}

static size_t write_body(const struct world *world, const struct message *message, char *body, size_t size) {
    const struct sending *plan = message->plan;
    size_t length = 0;
    if (plan->invalid == INVALID_JSON) {
        ADD(body, length, size, "{\"request_id\":\"r%u\",", plan->id);
        return length;
    }
    if (plan->invalid == INVALID_NO_OBJECT) {
        ADD(body, length, size, "[\"r%u\"]", plan->id);
        return length;
    }
    ADD(body, length, size, "{");
    length = add_invalid(body, length, size, plan->invalid);
    ADD(body, length, size, "\"unknown\":null");
    if (!plan->id_outside && plan->invalid != INVALID_NO_ID && plan->invalid != INVALID_ID)
        ADD(body, length, size, ",\"request_id\":\"r%u\"", plan->id);
    length = add_ask(world, body, length, size, plan);
    if (plan->fresh && plan->invalid != INVALID_FRESH)
        ADD(body, length, size, ",\"fresh\":true");
    if (plan->deadline == DEADLINE_BODY && plan->invalid != INVALID_DEADLINE) {
        char text[40];
        write_time(text, sizeof text, deadline_of(message));
        ADD(body, length, size, ",\"deadline\":\"%s\"", text);
    }
    ADD(body, length, size, "}");
    return length;
}

static void write_properties(struct handed *handed, const struct message *message) {
    const struct sending *plan = message->plan;
    struct delivery *delivery = &handed->delivery;
    if (plan->invalid != INVALID_NO_ID) {
        bool same = plan->id_outside;
        (void)snprintf(handed->message_id, sizeof handed->message_id, "%c%u", same ? 'r' : 'm',
                       same ? plan->id : message->index);
        delivery->message_id = handed->message_id;
    }
    (void)snprintf(handed->correlation_id, sizeof handed->correlation_id, "c%u", message->index);
    delivery->correlation_id = handed->correlation_id;
    delivery->reply_to = reply_queues[plan->reply];
    delivery->user_id = plan->stranger ? "stranger" : "billing";
    if (plan->deadline == DEADLINE_STAMPED)
        delivery->timestamp = WORLD_EPOCH + message->sent_at / SECOND_US;
    if (plan->deadline == DEADLINE_HEADER && plan->invalid != INVALID_DEADLINE) {
        write_time(handed->timestamp_text, sizeof handed->timestamp_text, deadline_of(message));
        delivery->deadline = handed->timestamp_text;
    } else if (plan->deadline == DEADLINE_NONE && plan->invalid != INVALID_DEADLINE)
        delivery->deadline = "none";
    if (plan->invalid == INVALID_GENERATION)
        delivery->generation = "zero";
    else if (plan->generation > 0) {
        (void)snprintf(handed->generation, sizeof handed->generation, "%u", plan->generation);
        delivery->generation = handed->generation;
    }
    delivery->delivery_count = message->returns;
}

uint64_t message_deadline(const struct world *world, const struct message *message) {
    const struct sending *plan = message->plan;
    uint64_t seconds = world->scenario->settings.deadline_seconds;
    if (plan->invalid != VALID)
        return 0;
    if (plan->deadline == DEADLINE_BODY || plan->deadline == DEADLINE_HEADER)
        return deadline_of(message);
    if (plan->deadline != DEADLINE_STAMPED || seconds == 0)
        return 0;
    return (WORLD_EPOCH + message->sent_at / SECOND_US + seconds) * SECOND_US;
}

struct handed *message_hand(struct world *world, struct message *message) {
    struct handed *handed = calloc(1, sizeof *handed);
    if (!handed)
        abort();
    write_properties(handed, message);
    handed->delivery.oversized = message->plan->invalid == INVALID_SIZE;
    if (handed->delivery.oversized)
        handed->delivery.body_size = 100000;
    else {
        handed->delivery.body_length = write_body(world, message, handed->body, sizeof handed->body);
        handed->delivery.body_size = handed->delivery.body_length;
        handed->delivery.body = handed->body;
    }
    return handed;
}
