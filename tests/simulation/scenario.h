/* scenario.h — what a seed stands for: the settings of a fleet, the messages that are sent, and what goes wrong when.
 * All of it is drawn before the world begins, so that parts can be left out while the rest stays. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "chance.h"
#include "portal/portal.h"

enum {
    TEAMS_MAX = 40,
    USERS_MAX = 40,
    PRODUCTS_MAX = 8,
    WORKERS_MAX = 4,
    SUSPECTS_FROM = 5,    /* x-delivery-count from which a request is worked alone, by the contract */
    CUSTOMER_STEP = 1000, /* team 7's customer is cus_7, after a change cus_1007 */
};

#define BASE_URL "https://app.example"
#define SECOND_US UINT64_C(1000000)

/* What tells two asks apart. */
struct ask {
    uint16_t team, user; /* 0: not given */
    uint8_t path, locale, flow, configuration;
};

enum flow_kind { FLOW_NONE, FLOW_PAYMENT, FLOW_CANCEL, FLOW_UPDATE, FLOW_CONFIRM, FLOW_WRONG, FLOW_KINDS };
enum chosen_kind { CHOSEN_NONE, CHOSEN_ACTIVE, CHOSEN_GONE };

enum invalid_kind {
    VALID,
    INVALID_JSON,
    INVALID_NO_OBJECT,
    INVALID_NO_ID,
    INVALID_ID,
    INVALID_NO_ASKER,
    INVALID_PATH,
    INVALID_LOCALE,
    INVALID_FLOW,
    INVALID_FRESH,
    INVALID_DEADLINE,
    INVALID_GENERATION,
    INVALID_SIZE,
    INVALID_KINDS,
};

enum deadline_kind { DEADLINE_DEFAULT, DEADLINE_STAMPED, DEADLINE_BODY, DEADLINE_HEADER, DEADLINE_NONE };
enum reply_kind { REPLY_DEFAULT, REPLY_NAMED, REPLY_DIRECT, REPLY_GONE, REPLY_FORBIDDEN, REPLY_KINDS };

/* One message that somebody sends. */
struct sending {
    uint64_t at;
    uint32_t id; /* of the request; several messages may have the same */
    struct ask ask;
    enum invalid_kind invalid;
    enum deadline_kind deadline;
    enum reply_kind reply;
    uint32_t deadline_seconds; /* after it is sent */
    uint32_t generation;       /* 0: no header */
    uint32_t tries;            /* that crashes have left behind before */
    uint32_t returns;          /* how often it has come back before: x-delivery-count to begin with */
    bool id_outside;           /* the message id serves as request id */
    bool fresh;
    bool stranger;  /* its AMQP user-id is not among the senders */
    bool poisonous; /* whoever parses it crashes */
    bool bad;       /* its answer can't be stored: the same for all messages of an id */
    bool dropped;   /* left out while shrinking */
};

enum fault_kind {
    FAULT_CRASH,
    FAULT_CRASH_AT_CALL,
    FAULT_TERMINATE,
    FAULT_STALL,
    FAULT_WALL_JUMP,
    FAULT_RECONFIGURE,
    FAULT_CONSUMER_LOST,
    FAULT_PUBLISHER_LOST,
    FAULT_BROKER_OUT,
    FAULT_BLOCKED,
    FAULT_REPLIES_FULL,
    FAULT_DEAD_FULL,
    FAULT_STORE_LOST,
    FAULT_STORE_OUT,
    FAULT_STORE_FAILS,
    FAULT_STORE_DENIES,
    FAULT_STORE_SLOW,
    FAULT_STRIPE_RESETS,
    FAULT_STRIPE_HANGS,
    FAULT_STRIPE_BROKEN,
    FAULT_STRIPE_HALF, /* no session is made, while reads serve */
    FAULT_STRIPE_DENIES,
    FAULT_STRIPE_FLAKY,
    FAULT_STRIPE_FINAL,
    FAULT_STRIPE_SLOW,
    FAULT_STRIPE_LIMITS,
    FAULT_STRIPE_LIES,
    FAULT_CONFIGURATION_GONE,
    FAULT_TEAM_CHANGES,
    FAULT_PRODUCT_CHANGES,
    FAULT_KINDS,
};

struct fault {
    enum fault_kind kind;
    uint64_t at, lasts; /* microseconds */
    unsigned target;    /* a worker, a team, a product */
    unsigned calls;     /* CRASH_AT_CALL: after so many */
    bool dropped;
};

enum team_kind {
    TEAM_USUAL,
    TEAM_NO_CUSTOMER,
    TEAM_NO_PRODUCT,
    TEAM_CANCELED,
    TEAM_CUSTOMER_GONE, /* at Stripe */
    TEAM_MISSING,
    TEAM_KINDS,
};

enum user_kind { USER_MEMBER, USER_DELETED, USER_MISSING, USER_ALONE };

struct scenario {
    uint64_t seed;
    struct portal_settings settings; /* but for the worker's name and features */
    unsigned workers;
    uint64_t ends_at; /* sending and faults are over */
    unsigned faults_of_kind[FAULT_KINDS];

    unsigned teams, users, products;
    enum team_kind team_kinds[TEAMS_MAX + 1];
    uint8_t team_products[TEAMS_MAX + 1];
    enum user_kind user_kinds[USERS_MAX + 1];
    uint8_t user_teams[USERS_MAX + 1];
    uint16_t product_prices[PRODUCTS_MAX + 1]; /* how many are active */
    bool product_inactive[PRODUCTS_MAX + 1];
    bool configuration_there; /* Stripe has an active configuration to begin with */
    unsigned page;            /* what Stripe lists at once */
    uint64_t net_us, database_us, stripe_us;

    struct sending *sendings; /* in the order of time */
    unsigned sending_count;
    unsigned ids;
    struct fault *faults;
    unsigned fault_count;
};

/* Draws it; `steps` messages. Freed with scenario_free(). */
void scenario_draw(struct scenario *scenario, uint64_t seed, unsigned steps);
void scenario_free(struct scenario *scenario);

const char *fault_name(enum fault_kind kind);
bool ask_equal(const struct ask *a, const struct ask *b);

/* The places a request may come back to; texts of the contract's kind. */
extern const char *const scenario_paths[4];
extern const char *const scenario_locales[3];
