/* scenario.c — draws what a seed stands for. Each seed has a character: how busy, how long, and which few kinds of
 * trouble; trouble of every kind at once would hide more than it shows. */
#include "scenario.h"

#include <stdlib.h>
#include <string.h>

const char *const scenario_paths[4] = {"/dashboard", "/billing", "/a/b?tab=plan", "/x"};
const char *const scenario_locales[3] = {NULL, "de", "pt-BR"};

static const char *const fault_names[FAULT_KINDS] = {
    [FAULT_CRASH] = "crash",
    [FAULT_CRASH_AT_CALL] = "crash-at-call",
    [FAULT_TERMINATE] = "terminate",
    [FAULT_STALL] = "stall",
    [FAULT_WALL_JUMP] = "wall-clock-jumps",
    [FAULT_RECONFIGURE] = "reconfigure",
    [FAULT_CONSUMER_LOST] = "consumer-lost",
    [FAULT_PUBLISHER_LOST] = "publisher-lost",
    [FAULT_BROKER_OUT] = "broker-out",
    [FAULT_BLOCKED] = "broker-blocks",
    [FAULT_REPLIES_FULL] = "replies-full",
    [FAULT_DEAD_FULL] = "dead-letters-refused",
    [FAULT_STORE_LOST] = "store-lost",
    [FAULT_STORE_OUT] = "store-out",
    [FAULT_STORE_FAILS] = "store-fails",
    [FAULT_STORE_DENIES] = "store-denies",
    [FAULT_STORE_SLOW] = "store-slow",
    [FAULT_STRIPE_RESETS] = "stripe-resets",
    [FAULT_STRIPE_HANGS] = "stripe-hangs",
    [FAULT_STRIPE_BROKEN] = "stripe-broken",
    [FAULT_STRIPE_HALF] = "stripe-half",
    [FAULT_STRIPE_DENIES] = "stripe-denies",
    [FAULT_STRIPE_FLAKY] = "stripe-flaky",
    [FAULT_STRIPE_FINAL] = "stripe-final",
    [FAULT_STRIPE_SLOW] = "stripe-slow",
    [FAULT_STRIPE_LIMITS] = "stripe-limits",
    [FAULT_STRIPE_LIES] = "stripe-lies",
    [FAULT_CONFIGURATION_GONE] = "configuration-gone",
    [FAULT_TEAM_CHANGES] = "team-changes",
    [FAULT_PRODUCT_CHANGES] = "product-changes",
};

const char *fault_name(enum fault_kind kind) {
    return fault_names[kind];
}

bool ask_equal(const struct ask *a, const struct ask *b) {
    return a->team == b->team && a->user == b->user && a->path == b->path && a->locale == b->locale &&
           a->flow == b->flow && a->configuration == b->configuration;
}

/* One of a few values. */
static uint32_t pick(struct chance *chance, const uint32_t *values, size_t count) {
    return values[chance_below(chance, count)];
}
#define PICK(chance, ...)                                                                                              \
    pick(chance, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

/* ---- settings ---- */

static char *const reply_queues[] = {"portal.replies", "portal.replies.*", "amq.rabbitmq.reply-to.*", NULL};
static char *const senders[] = {"billing", NULL};
static char *const refused_statuses[] = {"canceled", "incomplete_expired", NULL};

static void draw_settings(struct scenario *scenario, struct chance *chance) {
    struct portal_settings *settings = &scenario->settings;
    *settings = (struct portal_settings){
        .base_url = BASE_URL,
        .account = "acct",
        .livemode = chance_in(chance, 1, 2),
        .reply_queues = reply_queues,
        .team_senders = chance_in(chance, 1, 4) ? senders : NULL,
        .refused_statuses = refused_statuses,
        .policy = PICK(chance, POLICY_SHARED, POLICY_SHARED, POLICY_PER_PRODUCT, POLICY_PER_PRODUCT, POLICY_FIXED),
        .fixed_configuration = "bpc_0",
        .prices_seconds = PICK(chance, 5, 600),
        .concurrency = PICK(chance, 1, 4, 16, 64, 64),
        .stripe_concurrency = PICK(chance, 1, 4, 16, 32),
        .stripe_rate_limit = PICK(chance, 0, 0, 5, 20, 20),
        .stripe_max_retries = PICK(chance, 0, 2, 5),
        .deadline_seconds = PICK(chance, 0, 30, 900),
        .hold_seconds = PICK(chance, 5, 60),
        .session_seconds = 300,
        .session_reuse_seconds = PICK(chance, 0, 120, 240),
    };
    scenario->workers = (unsigned)chance_between(chance, 1, WORKERS_MAX);
    scenario->net_us = PICK(chance, 100, 1000, 20000);
    scenario->database_us = PICK(chance, 200, 2000, 20000);
    scenario->stripe_us = PICK(chance, 1000, 100000, 400000);
    scenario->page = PICK(chance, 2, 10, 100);
    scenario->configuration_there = chance_in(chance, 1, 2);
}

/* ---- who is who ---- */

static void draw_people(struct scenario *scenario, struct chance *chance) {
    scenario->teams = PICK(chance, 1, 3, 12, TEAMS_MAX);
    scenario->users = PICK(chance, 2, 10, USERS_MAX);
    scenario->products = (unsigned)chance_between(chance, 1, PRODUCTS_MAX);
    for (unsigned i = 1; i <= TEAMS_MAX; i++) {
        unsigned roll = (unsigned)chance_below(chance, 20);
        scenario->team_kinds[i] = i > scenario->teams ? TEAM_MISSING : roll < TEAM_KINDS ? roll : TEAM_USUAL;
        scenario->team_products[i] = (uint8_t)chance_between(chance, 1, scenario->products);
    }
    for (unsigned i = 1; i <= USERS_MAX; i++) {
        unsigned roll = (unsigned)chance_below(chance, 16);
        scenario->user_kinds[i] = i > scenario->users ? USER_MISSING : roll <= USER_ALONE ? roll : USER_MEMBER;
        scenario->user_teams[i] = (uint8_t)chance_between(chance, 1, scenario->teams);
    }
    for (unsigned i = 1; i <= PRODUCTS_MAX; i++) {
        scenario->product_inactive[i] = chance_in(chance, 1, 8);
        scenario->product_prices[i] = (uint16_t)(chance_in(chance, 1, 8) ? 0 : chance_between(chance, 1, 7));
    }
}

/* ---- messages ---- */

static void draw_ask(const struct scenario *scenario, struct chance *chance, struct ask *ask) {
    *ask = (struct ask){.path = (uint8_t)chance_below(chance, chance_in(chance, 1, 3) ? 4 : 1),
                        .locale = (uint8_t)chance_below(chance, chance_in(chance, 1, 4) ? 3 : 1),
                        .flow = (uint8_t)(chance_in(chance, 1, 5) ? chance_below(chance, FLOW_KINDS) : FLOW_NONE),
                        .configuration = CHOSEN_NONE};
    if (chance_in(chance, 1, 20))
        ask->configuration = (uint8_t)chance_between(chance, CHOSEN_ACTIVE, CHOSEN_GONE);
    unsigned unknown = chance_in(chance, 1, 16); /* one more than there are */
    if (chance_in(chance, 1, 3))
        ask->user = (uint16_t)chance_between(chance, 1, scenario->users + unknown);
    if (ask->user == 0)
        ask->team = (uint16_t)chance_between(chance, 1, scenario->teams + unknown);
    else if (chance_in(chance, 1, 3)) /* mostly the user's own */
        ask->team = chance_in(chance, 4, 5) && ask->user <= USERS_MAX ? scenario->user_teams[ask->user] : 1;
}

static void draw_manner(const struct scenario *scenario, struct chance *chance, struct sending *sending) {
    if (chance_in(chance, 1, 20))
        sending->invalid = (enum invalid_kind)chance_between(chance, 1, INVALID_KINDS - 1);
    if (chance_in(chance, 1, 4))
        sending->deadline = (enum deadline_kind)chance_between(chance, DEADLINE_STAMPED, DEADLINE_NONE);
    sending->deadline_seconds = PICK(chance, 0, 1, 5, 30, 300);
    if (chance_in(chance, 1, 6))
        sending->reply = (enum reply_kind)chance_between(chance, REPLY_NAMED, REPLY_KINDS - 1);
    sending->id_outside = chance_in(chance, 1, 4);
    sending->fresh = chance_in(chance, 1, 10);
    sending->stranger = scenario->settings.team_senders && chance_in(chance, 1, 10);
}

/* Something that was sent before comes again: a duplicate, a replay, or another ask under its id. */
static void draw_repeated(const struct scenario *scenario, struct chance *chance, struct sending *sending,
                          unsigned before) {
    unsigned back = chance_in(chance, 1, 2) ? before : before < 8 ? before : 8;
    const struct sending *earlier = &scenario->sendings[before - 1 - chance_below(chance, back)];
    uint64_t at = sending->at;
    *sending = *earlier;
    sending->at = at;
    unsigned roll = (unsigned)chance_below(chance, 10);
    if (roll < 3) {
        sending->generation = (uint32_t)chance_between(chance, 1, 4);
        sending->deadline = DEADLINE_NONE;
    } else if (roll < 4)
        draw_ask(scenario, chance, &sending->ask);
    else if (roll < 5)
        sending->reply = (enum reply_kind)chance_below(chance, REPLY_FORBIDDEN);
    else if (roll < 6)
        sending->fresh = !sending->fresh;
}

static int compare_sendings(const void *a, const void *b) {
    const struct sending *left = a, *right = b;
    return left->at < right->at ? -1 : left->at > right->at;
}

static void draw_sendings(struct scenario *scenario, struct chance *chance, unsigned steps) {
    struct ask crowd; /* what many ask for at once */
    bool bad_rows = chance_in(chance, 1, 4), poison = chance_in(chance, 1, 12);
    unsigned repeats = PICK(chance, 0, 5, 15), crowds = PICK(chance, 0, 30, 90);
    bool tired = chance_in(chance, 1, 4); /* the queue has seen trouble before */
    unsigned poisonous = poison ? (unsigned)chance_between(chance, 1, 2) : 0;
    scenario->sendings = calloc(steps > 0 ? steps : 1, sizeof *scenario->sendings);
    if (!scenario->sendings)
        abort();
    scenario->sending_count = steps;
    draw_ask(scenario, chance, &crowd);
    for (unsigned i = 0; i < steps; i++) {
        struct sending *sending = &scenario->sendings[i];
        sending->at = chance_below(chance, scenario->ends_at);
        if (chance_in(chance, 1, 2)) /* in waves */
            sending->at -= sending->at % (scenario->ends_at / 8 + 1);
        sending->at += SECOND_US / 2;
    }
    qsort(scenario->sendings, steps, sizeof *scenario->sendings, compare_sendings);
    for (unsigned i = 0; i < steps; i++) {
        struct sending *sending = &scenario->sendings[i];
        if (i > 0 && chance_in(chance, repeats, 100)) {
            draw_repeated(scenario, chance, sending, i);
            continue;
        }
        sending->id = scenario->ids++;
        sending->bad = bad_rows && chance_in(chance, 1, 30);
        if (poisonous > 0 && chance_in(chance, 1, steps / 4 + 1)) {
            sending->poisonous = true;
            poisonous--;
        }
        draw_ask(scenario, chance, &sending->ask);
        if (chance_in(chance, crowds, 100))
            sending->ask = crowd;
        draw_manner(scenario, chance, sending);
        if (tired && chance_in(chance, 1, 4))
            sending->returns = (uint32_t)chance_between(chance, SUSPECTS_FROM - 2, SUSPECTS_FROM + 1);
        if (sending->returns >= SUSPECTS_FROM)
            sending->tries = PICK(chance, 0, 1, 2, 2, 2, 3);
    }
}

/* ---- faults ---- */

static uint64_t draw_lasts(struct chance *chance, enum fault_kind kind) {
    uint64_t seconds = PICK(chance, 1, 3, 10, 30, 100);
    switch (kind) {
    case FAULT_STALL:
        return PICK(chance, 50, 500, 5000, 90000) * UINT64_C(1000);
    case FAULT_STORE_SLOW:
    case FAULT_STRIPE_SLOW:
    case FAULT_STRIPE_FLAKY:
    case FAULT_STRIPE_LIES:
        return seconds * SECOND_US;
    default:
        return chance_in(chance, 1, 12) ? 600 * SECOND_US : seconds * SECOND_US;
    }
}

/* Troubles that are worse together: blows, and the bad weather in which they fall. */
static const enum fault_kind pairs[][2] = {
    {FAULT_CONSUMER_LOST, FAULT_STRIPE_SLOW},
    {FAULT_CONSUMER_LOST, FAULT_STORE_SLOW},
    {FAULT_STORE_LOST, FAULT_CRASH},
    {FAULT_STORE_LOST, FAULT_TERMINATE},
    {FAULT_STORE_FAILS, FAULT_STORE_LOST},
    {FAULT_CRASH_AT_CALL, FAULT_STRIPE_FLAKY},
    {FAULT_CONFIGURATION_GONE, FAULT_STORE_LOST},
    {FAULT_PUBLISHER_LOST, FAULT_REPLIES_FULL},
    {FAULT_CONFIGURATION_GONE, FAULT_PRODUCT_CHANGES},
    {FAULT_STALL, FAULT_CONSUMER_LOST},
    {FAULT_TEAM_CHANGES, FAULT_STRIPE_SLOW},
};

/* Result: how many kinds of trouble there are; 0: a calm world. */
static unsigned draw_kinds(struct chance *chance, enum fault_kind kinds[6]) {
    unsigned variety = (unsigned)chance_below(chance, 9);
    if (variety >= 6) {
        const enum fault_kind *pair = pairs[chance_below(chance, sizeof pairs / sizeof *pairs)];
        kinds[0] = kinds[1] = pair[0];
        kinds[2] = pair[1];
        return 3;
    }
    for (unsigned i = 0; i < variety; i++)
        kinds[i] = (enum fault_kind)chance_below(chance, FAULT_KINDS);
    return variety;
}

static void draw_faults(struct scenario *scenario, struct chance *chance, unsigned steps) {
    enum fault_kind kinds[6];
    unsigned variety = draw_kinds(chance, kinds);
    unsigned most = PICK(chance, 2, 6, 20, 40);
    if (variety == 0)
        return;
    bool burst = chance_in(chance, 1, 3); /* all within a few seconds */
    bool same = chance_in(chance, 1, 2);  /* always at the same worker, team, product */
    uint64_t from = burst ? chance_below(chance, scenario->ends_at) : 0;
    uint64_t span = burst ? PICK(chance, 1, 10) * SECOND_US : scenario->ends_at;
    scenario->fault_count = (unsigned)chance_between(chance, 1, most < steps + 1 ? most : steps + 1);
    scenario->faults = calloc(scenario->fault_count, sizeof *scenario->faults);
    if (!scenario->faults)
        abort();
    for (unsigned i = 0; i < scenario->fault_count; i++) {
        struct fault *fault = &scenario->faults[i];
        fault->kind = kinds[chance_below(chance, variety)];
        fault->at = from + chance_below(chance, span);
        fault->lasts = draw_lasts(chance, fault->kind);
        fault->target = same && i > 0 ? scenario->faults[0].target : (unsigned)chance_next(chance) & 0xffff;
        fault->calls = (unsigned)chance_between(chance, 1, 40);
        if (i == 0 && kinds[0] == kinds[1]) {
            fault->kind = kinds[variety - 1];
            fault->at = from;
            fault->lasts = 30 * SECOND_US;
        }
        scenario->faults_of_kind[fault->kind]++;
    }
}

void scenario_draw(struct scenario *scenario, uint64_t seed, unsigned steps) {
    struct chance chance = chance_fork(seed, 1);
    *scenario = (struct scenario){.seed = seed};
    scenario->ends_at = PICK(&chance, 2, 20, 60, 200, 600, 100000) * SECOND_US;
    draw_settings(scenario, &chance);
    draw_people(scenario, &chance);
    draw_sendings(scenario, &chance, steps);
    draw_faults(scenario, &chance, steps);
}

void scenario_free(struct scenario *scenario) {
    free(scenario->sendings);
    free(scenario->faults);
    *scenario = (struct scenario){0};
}
