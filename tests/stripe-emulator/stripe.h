/* What happens to one call of Stripe's API, from its arrival to its answer. */
#pragma once

struct emulator;
struct request;

/* Logs the call, lets the faults choose, checks it: key, limits, version, parameters, idempotency key. Its phase then
 * says whether it is answered, or is to be finished with stripe_finish after its fault's delay. */
void stripe_arrive(struct emulator *emulator, struct request *request);

/* Runs its endpoint, unless it was refused, and answers it. `context` is a struct emulator. */
void stripe_finish(void *context, struct request *request);

/* What Stripe-Version says where the request names none. */
extern const char stripe_version[];
