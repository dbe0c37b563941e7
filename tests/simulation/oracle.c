/* oracle.c — what the contract lets a message be answered: DESIGN.md's table once more, written from the message and
 * the world alone, so that the core is not asked about itself. */
#include "promises.h"
#include "world.h"

#define BIT(code) (UINT32_C(1) << (code))

bool oracle_is_owed_reply(const struct message *message) {
    return message->plan->reply != REPLY_FORBIDDEN;
}

bool oracle_is_dead_lettered(enum code code) {
    return BIT(code) & (BIT(CODE_INVALID_REQUEST) | BIT(CODE_FORBIDDEN_SENDER) | BIT(CODE_STRIPE_UNAVAILABLE) |
                        BIT(CODE_INTERNAL_ERROR) | BIT(CODE_POISONOUS));
}

bool oracle_is_stored(enum code code) {
    return !(BIT(code) & (BIT(CODE_INVALID_REQUEST) | BIT(CODE_FORBIDDEN_SENDER) | BIT(CODE_REQUEST_CONFLICT) |
                          BIT(CODE_INTERNAL_ERROR) | BIT(CODE_POISONOUS)));
}

/* The team that is asked for; 0: none. */
static unsigned team_of(const struct scenario *scenario, const struct ask *ask) {
    if (ask->user == 0)
        return ask->team;
    enum user_kind kind = ask->user > USERS_MAX ? USER_MISSING : scenario->user_kinds[ask->user];
    unsigned member_of = kind == USER_MEMBER ? scenario->user_teams[ask->user] : 0;
    return ask->team == 0 || ask->team == member_of ? member_of : 0;
}

/* An outage for all is waited out, whatever the retries; only at its beginning and end Stripe still served others. */
static bool may_be_unavailable(const struct scenario *scenario) {
    unsigned outages = 0, others = 0;
    for (enum fault_kind kind = FAULT_STRIPE_RESETS; kind <= FAULT_STRIPE_LIES; kind++)
        if (kind == FAULT_STRIPE_RESETS || kind == FAULT_STRIPE_HANGS || kind == FAULT_STRIPE_BROKEN ||
            kind == FAULT_STRIPE_HALF || kind == FAULT_STRIPE_DENIES || kind == FAULT_STRIPE_LIMITS)
            outages += scenario->faults_of_kind[kind];
        else
            others += scenario->faults_of_kind[kind];
    return others > 0 || 2 * outages > scenario->settings.stripe_max_retries;
}

static uint32_t by_stripe(const struct world *world, const struct ask *ask, unsigned team) {
    const struct scenario *scenario = world->scenario;
    const struct portal_settings *settings = &scenario->settings;
    unsigned product = scenario->team_products[team];
    bool there = scenario->configuration_there || settings->policy == POLICY_FIXED;
    bool looked_up = ask->configuration == CHOSEN_NONE && settings->policy != POLICY_FIXED;
    bool refused = scenario->team_kinds[team] == TEAM_CUSTOMER_GONE || ask->configuration == CHOSEN_GONE ||
                   (ask->configuration == CHOSEN_ACTIVE && !there);
    uint32_t codes = refused ? BIT(CODE_STRIPE_ERROR) : BIT(CODE_NONE);
    if (looked_up && scenario->product_inactive[product])
        codes |= BIT(CODE_PRODUCT_INACTIVE);
    if (looked_up && !scenario->product_inactive[product] && scenario->product_prices[product] == 0)
        codes |= BIT(CODE_NO_ACTIVE_PRICES);
    if (scenario->faults_of_kind[FAULT_CONFIGURATION_GONE] > 1 || scenario->faults_of_kind[FAULT_STRIPE_FINAL] > 0)
        codes |= BIT(CODE_STRIPE_ERROR);
    return may_be_unavailable(scenario) ? codes | BIT(CODE_STRIPE_UNAVAILABLE) : codes;
}

static uint32_t by_rules(const struct world *world, const struct ask *ask) {
    const struct scenario *scenario = world->scenario;
    enum user_kind user = ask->user > USERS_MAX ? USER_MISSING : scenario->user_kinds[ask->user];
    if (ask->user > 0 && (user == USER_DELETED || user == USER_MISSING))
        return BIT(CODE_UNAUTHENTICATED);
    unsigned team = team_of(scenario, ask);
    if (team == 0 || team > TEAMS_MAX || scenario->team_kinds[team] == TEAM_MISSING)
        return BIT(CODE_TEAM_NOT_FOUND);
    if (scenario->team_kinds[team] == TEAM_NO_CUSTOMER || scenario->team_kinds[team] == TEAM_NO_PRODUCT)
        return BIT(CODE_NO_SUBSCRIPTION);
    if (ask->user > 0 && scenario->team_kinds[team] == TEAM_CANCELED)
        return BIT(CODE_SUBSCRIPTION_INACTIVE);
    if (ask->flow == FLOW_WRONG)
        return BIT(CODE_SUBSCRIPTION_NOT_FOUND);
    return by_stripe(world, ask, team);
}

/* Tries are those of a message id, which several messages may have. */
static unsigned tries_of(const struct world *world, const struct message *message) {
    unsigned tries = message->live_tries;
    for (unsigned i = 0; i < world->scenario->sending_count; i++)
        if (world->messages[i].plan->id == message->plan->id)
            tries += world->messages[i].crashes_alone;
    return tries;
}

uint32_t oracle_codes(const struct world *world, const struct message *message) {
    const struct sending *plan = message->plan;
    const struct portal_settings *settings = &world->scenario->settings;
    uint32_t codes = 0;
    if (plan->poisonous || tries_of(world, message) >= POISONOUS_TRIES)
        codes |= BIT(CODE_POISONOUS);
    if (plan->invalid != VALID)
        return codes | BIT(CODE_INVALID_REQUEST);
    if (settings->team_senders && plan->ask.user == 0 && plan->stranger)
        return codes | BIT(CODE_FORBIDDEN_SENDER);
    codes |= by_rules(world, &plan->ask);
    if (plan->bad)
        codes = (codes & BIT(CODE_POISONOUS)) | BIT(CODE_INTERNAL_ERROR);
    if (world->requests[plan->id].contested)
        codes |= BIT(CODE_REQUEST_CONFLICT);
    bool forever =
        plan->deadline == DEADLINE_NONE || (settings->deadline_seconds == 0 && plan->deadline <= DEADLINE_STAMPED);
    if (!forever && !plan->bad)
        codes |= BIT(CODE_DEADLINE_EXCEEDED);
    return codes;
}

unsigned oracle_team(const struct world *world, const struct message *message) {
    return team_of(world->scenario, &message->plan->ask);
}
