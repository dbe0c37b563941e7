/* lives.c — each way a request can go through the core, as a small scenario of the simulator. */
#include "lives.h"

#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000)
#define HERE (1000 * MS) /* when the first request comes: all links are there */

enum { TEAM = 1, TEAM_POOR, TEAM_ENDED, TEAM_GONE, TEAM_DEAD_PRODUCT, TEAM_NO_PRICES, TEAM_OTHER, TEAMS };
enum { USER = 1, USER_DELETED_ONE, USER_OF_ENDED, USERS };

static void per_product(struct scenario *scenario) {
    scenario->settings.policy = POLICY_PER_PRODUCT;
}

static void per_product_refreshed(struct scenario *scenario) {
    per_product(scenario);
    scenario->settings.prices_seconds = 5;
}

static void fixed(struct scenario *scenario) {
    scenario->settings.policy = POLICY_FIXED;
    scenario->configuration_there = true;
}

static void configuration_there(struct scenario *scenario) {
    scenario->configuration_there = true;
}

static void limited(struct scenario *scenario) {
    scenario->settings.stripe_rate_limit = 5;
}

static void fixed_and_impatient(struct scenario *scenario) {
    fixed(scenario);
    scenario->settings.stripe_max_retries = 0;
}

static char *const nobody[] = {"nobody", NULL};
static void senders(struct scenario *scenario) {
    scenario->settings.team_senders = nobody;
}

#define ASK_TEAM(number) .ask = {.team = (number)}

const struct life lives[] = {
    {"a team's session, and the configuration made for it", NULL, {{.at = HERE, ASK_TEAM(TEAM)}}, {{0}}},
    {"with a configuration found", configuration_there, {{.at = HERE, ASK_TEAM(TEAM)}}, {{0}}},
    {"with a fixed configuration", fixed, {{.at = HERE, ASK_TEAM(TEAM)}}, {{0}}},
    {"with a configuration of its own product", per_product, {{.at = HERE, ASK_TEAM(TEAM)}}, {{0}}},
    {"a user's session, its message id serving as its id",
     configuration_there,
     {{.at = HERE, .ask = {.user = USER, .locale = 1, .path = 2}, .id_outside = true},
      {.at = HERE + 2000 * MS, .id = 1, .ask = {.user = USER, .team = TEAM}, .fresh = true}},
     {{0}}},
    {"every flow",
     configuration_there,
     {{.at = HERE, .ask = {.team = TEAM, .flow = FLOW_PAYMENT}},
      {.at = HERE + 1 * MS, .id = 1, .ask = {.team = TEAM, .flow = FLOW_CANCEL}},
      {.at = HERE + 2 * MS, .id = 2, .ask = {.team = TEAM, .flow = FLOW_UPDATE}},
      {.at = HERE + 3 * MS, .id = 3, .ask = {.team = TEAM, .flow = FLOW_CONFIRM}},
      {.at = HERE + 4 * MS, .id = 4, .ask = {.team = TEAM, .flow = FLOW_WRONG}}},
     {{0}}},
    {"a session reused",
     configuration_there,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE + 5000 * MS, .id = 1, ASK_TEAM(TEAM)}},
     {{0}}},
    {"one call shared by four",
     configuration_there,
     {{.at = HERE, ASK_TEAM(TEAM)},
      {.at = HERE, .id = 1, ASK_TEAM(TEAM)},
      {.at = HERE, .id = 2, ASK_TEAM(TEAM)},
      {.at = HERE + 1 * MS, .id = 3, ASK_TEAM(TEAM)}},
     {{0}}},
    {"the same request twice, and a replay",
     configuration_there,
     {{.at = HERE, ASK_TEAM(TEAM)},
      {.at = HERE, ASK_TEAM(TEAM)},
      {.at = HERE + 5000 * MS, ASK_TEAM(TEAM), .generation = 2, .deadline = DEADLINE_NONE}},
     {{0}}},
    {"a conflict",
     configuration_there,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE, ASK_TEAM(TEAM_OTHER)}, {.at = HERE + 5000 * MS, ASK_TEAM(TEAM_POOR)}},
     {{0}}},
    {"redirects",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAM_POOR)},
      {.at = HERE + 1 * MS, .id = 1, .ask = {.user = USER_DELETED_ONE}},
      {.at = HERE + 2 * MS, .id = 2, .ask = {.user = USER_OF_ENDED}}},
     {{0}}},
    {"failures of the application's making",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAMS)},
      {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM_DEAD_PRODUCT)},
      {.at = HERE + 2 * MS, .id = 2, ASK_TEAM(TEAM_NO_PRICES)}},
     {{0}}},
    {"the same for each product",
     per_product,
     {{.at = HERE, ASK_TEAM(TEAM_DEAD_PRODUCT)}, {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM_NO_PRICES)}},
     {{0}}},
    {"refused by Stripe for good",
     configuration_there,
     {{.at = HERE, ASK_TEAM(TEAM_GONE)},
      {.at = HERE, .id = 1, ASK_TEAM(TEAM_GONE)},
      {.at = HERE + 1 * MS, .id = 2, .ask = {.team = TEAM, .configuration = CHOSEN_GONE}},
      {.at = HERE + 2 * MS, .id = 3, .ask = {.team = TEAM, .configuration = CHOSEN_ACTIVE}}},
     {{0}}},
    {"invalid in every manner",
     NULL,
     {{.at = HERE, .invalid = INVALID_JSON},
      {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM), .invalid = INVALID_PATH},
      {.at = HERE + 2 * MS, .id = 2, ASK_TEAM(TEAM), .invalid = INVALID_SIZE},
      {.at = HERE + 3 * MS, .id = 3, ASK_TEAM(TEAM), .invalid = INVALID_NO_ID},
      {.at = HERE + 4 * MS, .id = 4, ASK_TEAM(TEAM), .invalid = INVALID_FLOW}},
     {{0}}},
    {"a sender who may not, and a queue that is not allowed",
     senders,
     {{.at = HERE, ASK_TEAM(TEAM), .stranger = true},
      {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM), .reply = REPLY_FORBIDDEN},
      {.at = HERE + 2 * MS, .id = 2, .ask = {.user = USER}, .reply = REPLY_GONE},
      {.at = HERE + 3 * MS, .id = 3, .ask = {.user = USER}, .reply = REPLY_DIRECT}},
     {{0}}},
    {"too late",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAM), .deadline = DEADLINE_BODY},
      {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM), .deadline = DEADLINE_HEADER, .deadline_seconds = 2}},
     {{.kind = FAULT_STRIPE_SLOW, .at = HERE, .lasts = 10 * SECOND_US}}},
    {"an answer that can't be stored",
     configuration_there,
     {{.at = HERE, ASK_TEAM(TEAM), .bad = true}, {.at = HERE, .id = 1, ASK_TEAM(TEAM_OTHER)}},
     {{0}}},
    {"a suspect, and others that wait for it",
     configuration_there,
     {{.at = HERE, ASK_TEAM(TEAM), .returns = SUSPECTS_FROM},
      {.at = HERE, .id = 1, ASK_TEAM(TEAM_OTHER), .returns = SUSPECTS_FROM + 1},
      {.at = HERE + 1 * MS, .id = 2, ASK_TEAM(TEAM)}},
     {{0}}},
    {"a poisonous message", NULL, {{.at = HERE, ASK_TEAM(TEAM), .poisonous = true, .returns = SUSPECTS_FROM}}, {{0}}},
    {"prices that change",
     per_product_refreshed,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE + 20 * SECOND_US, .id = 1, ASK_TEAM(TEAM), .fresh = true}},
     {{.kind = FAULT_PRODUCT_CHANGES, .at = HERE + 10 * SECOND_US, .lasts = 1, .target = 0}}},
    {"a configuration that goes",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE + 20 * SECOND_US, .id = 1, ASK_TEAM(TEAM), .fresh = true}},
     {{.kind = FAULT_CONFIGURATION_GONE, .at = HERE + 10 * SECOND_US, .lasts = 1}}},
    {"Stripe away for all",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM_OTHER)}},
     {{.kind = FAULT_STRIPE_RESETS, .at = 0, .lasts = 20 * SECOND_US}}},
    {"Stripe failing some",
     configuration_there,
     {{.at = HERE, ASK_TEAM(TEAM)},
      {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM_OTHER)},
      {.at = HERE + 2 * MS, .id = 2, ASK_TEAM(TEAM)}},
     {{.kind = FAULT_STRIPE_FLAKY, .at = 0, .lasts = 60 * SECOND_US},
      {.kind = FAULT_STRIPE_LIES, .at = 0, .lasts = 30 * SECOND_US}}},
    {"Stripe lying, and no second try",
     fixed_and_impatient,
     {{.at = HERE, ASK_TEAM(TEAM), .fresh = true},
      {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM), .fresh = true},
      {.at = HERE + 2 * MS, .id = 2, ASK_TEAM(TEAM), .fresh = true},
      {.at = HERE + 3 * MS, .id = 3, ASK_TEAM(TEAM), .fresh = true}},
     {{.kind = FAULT_STRIPE_LIES, .at = 0, .lasts = 60 * SECOND_US}}},
    {"Stripe slowing us down",
     limited,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM_OTHER)}},
     {{.kind = FAULT_STRIPE_LIMITS, .at = 0, .lasts = 5 * SECOND_US}}},
    {"the database away",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE + 2 * SECOND_US, .id = 1, ASK_TEAM(TEAM_OTHER)}},
     {{.kind = FAULT_STORE_OUT, .at = HERE + 50 * MS, .lasts = 100 * SECOND_US}}},
    {"the database failing",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE + 2 * SECOND_US, .id = 1, ASK_TEAM(TEAM_OTHER)}},
     {{.kind = FAULT_STORE_FAILS, .at = HERE, .lasts = 5 * SECOND_US},
      {.kind = FAULT_STORE_DENIES, .at = HERE + 6 * SECOND_US, .lasts = 5 * SECOND_US}}},
    {"the broker away",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE + 2 * SECOND_US, .id = 1, ASK_TEAM(TEAM_OTHER)}},
     {{.kind = FAULT_BROKER_OUT, .at = HERE + 50 * MS, .lasts = 10 * SECOND_US},
      {.kind = FAULT_BLOCKED, .at = HERE + 12 * SECOND_US, .lasts = 5 * SECOND_US}}},
    {"replies and dead letters refused",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE, .id = 1, ASK_TEAM(TEAM), .invalid = INVALID_LOCALE}},
     {{.kind = FAULT_REPLIES_FULL, .at = 0, .lasts = 10 * SECOND_US},
      {.kind = FAULT_DEAD_FULL, .at = 0, .lasts = 20 * SECOND_US}}},
    {"the end of a worker",
     NULL,
     {{.at = HERE, ASK_TEAM(TEAM)}, {.at = HERE + 1 * MS, .id = 1, ASK_TEAM(TEAM_OTHER)}},
     {{.kind = FAULT_TERMINATE, .at = HERE + 3 * MS}, {.kind = FAULT_RECONFIGURE, .at = HERE + 20 * SECOND_US}}},
};
const size_t lives_count = sizeof lives / sizeof *lives;

static char *const reply_queues[] = {"portal.replies", "portal.replies.*", "amq.rabbitmq.reply-to.*", NULL};
static char *const refused_statuses[] = {"canceled", NULL};

static void settle_usual(struct scenario *scenario) {
    scenario->settings = (struct portal_settings){
        .base_url = BASE_URL,
        .account = "acct",
        .reply_queues = reply_queues,
        .refused_statuses = refused_statuses,
        .policy = POLICY_SHARED,
        .fixed_configuration = "bpc_0",
        .prices_seconds = 600,
        .concurrency = 16,
        .stripe_concurrency = 4,
        .stripe_max_retries = 2,
        .deadline_seconds = 900,
        .hold_seconds = 5,
        .session_seconds = 300,
        .session_reuse_seconds = 120,
    };
    scenario->workers = 1;
    scenario->net_us = 1000;
    scenario->database_us = 2000;
    scenario->stripe_us = UINT64_C(100) * 1000;
    scenario->page = 2;
}

static void settle_people(struct scenario *scenario) {
    scenario->teams = TEAMS - 1;
    scenario->users = USERS - 1;
    scenario->products = 3;
    for (unsigned i = 1; i <= TEAMS_MAX; i++) {
        scenario->team_kinds[i] = i >= TEAMS ? TEAM_MISSING : TEAM_USUAL;
        scenario->team_products[i] = i == TEAM_DEAD_PRODUCT ? 2 : i == TEAM_NO_PRICES ? 3 : 1;
    }
    scenario->team_kinds[TEAM_POOR] = TEAM_NO_CUSTOMER;
    scenario->team_kinds[TEAM_ENDED] = TEAM_CANCELED;
    scenario->team_kinds[TEAM_GONE] = TEAM_CUSTOMER_GONE;
    for (unsigned i = 1; i <= USERS_MAX; i++) {
        scenario->user_kinds[i] = i >= USERS ? USER_MISSING : i == USER_DELETED_ONE ? USER_DELETED : USER_MEMBER;
        scenario->user_teams[i] = i == USER_OF_ENDED ? TEAM_ENDED : TEAM;
    }
    scenario->product_prices[1] = 5; /* more than a page */
    scenario->product_prices[2] = 1;
    scenario->product_inactive[2] = true;
}

void life_scenario(const struct life *life, struct scenario *scenario) {
    *scenario = (struct scenario){.seed = 1};
    settle_usual(scenario);
    settle_people(scenario);
    if (life->prepare)
        life->prepare(scenario);
    scenario->sendings = calloc(1, sizeof life->sendings);
    scenario->faults = calloc(1, sizeof life->faults);
    if (!scenario->sendings || !scenario->faults)
        abort();
    for (const struct sending *sending = life->sendings; sending->at > 0; sending++) {
        scenario->sendings[scenario->sending_count++] = *sending;
        if (sending->id >= scenario->ids)
            scenario->ids = sending->id + 1;
        scenario->ends_at = sending->at;
    }
    for (const struct fault *fault = life->faults; fault->kind != FAULT_CRASH; fault++) {
        scenario->faults[scenario->fault_count++] = *fault;
        scenario->faults_of_kind[fault->kind]++;
    }
}
