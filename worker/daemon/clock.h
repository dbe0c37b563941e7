/* clock.h — the host of the core: real time, chance, and its turns of the loop. */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "portal/links.h"
#include "portal/portal.h"

/* Time never comes from sd_event_now(), which is as old as the turn of the loop. */
uint64_t clock_monotonic(void); /* microseconds */
uint64_t clock_wall(void);      /* microseconds since 1970 */

struct clock;

/* Result: 0 or a negative errno; `*ret` is the caller's, freed with clock_free(). Without a portal nobody is woken. */
int clock_new(sd_event *event, struct clock **ret);
void clock_free(struct clock *clock);
void clock_set_portal(struct clock *clock, struct portal *portal);

uint64_t clock_random(struct clock *clock);             /* for jitter, not for secrets */
void clock_wake_at(struct clock *clock, uint64_t when); /* host->wake_at() */
void clock_soon(struct clock *clock);                   /* host->soon() */
