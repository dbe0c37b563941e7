/* promises.h — what the files that check share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct message;
struct stripe_exchange;
struct world;

uint64_t promise_tolerance_us(const struct world *world);

/* The team a message asks for, by the contract; 0: none. */
unsigned oracle_team(const struct world *world, const struct message *message);

/* Whether somebody was told what leaves nothing to be had from a key. */
bool stripe_key_is_used_up(struct world *world, const char *key);
/* How often this asker was, if it was the last. */
unsigned stripe_told_used_up(struct world *world, const char *key, uint64_t asker);
/* The delivery on whose behalf a session is asked for, as a number; 0: no session is. */
uint64_t conduct_asker(const struct stripe_exchange *exchange);
/* Whether a worker has the lease of the configuration that an idempotency key, from the scope on, is about. */
bool tables_holds_lease(const struct world *world, const char *key, const char *worker);
/* The mark in the metadata of a configuration; "" if it has none. */
const char *stripe_mark(const struct world *world, unsigned configuration);
/* Active configurations that workers made, with this mark in their metadata. */
unsigned stripe_active_of_ours(const struct world *world, const char *mark);
