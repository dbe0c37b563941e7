/* report.h — what the running worker is doing, said regularly: to systemd, to the table of workers, to Prometheus. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/settings.h"
#include "portal/portal.h"

struct report;

/* All is borrowed. Result: 0 or a negative errno; `*ret` is the caller's, freed with report_free(), after the store:
 * a heartbeat may be under way. */
int report_new(sd_event *event, const struct settings *settings, struct metrics *metrics, struct log *log,
               struct report **ret);
void report_free(struct report *report);

/* From here on there is something to report. */
void report_start(struct report *report, const struct portal *portal, const struct store_link *store);

/* Nothing is reported any more. */
void report_stop(struct report *report);

/* The worker is about to stop, as the status says from now on. */
void report_draining(struct report *report);

/* The worker ends in order, as its last sign of life says. Result: whether that is written, or can't be: false is to be
 * asked again. */
bool report_farewell(struct report *report);

/* Something changed that people wait for: status and heartbeat are brought up to date soon. */
void report_changed(struct report *report);

/* One line for people: what `systemctl status` shows. */
void report_status_line(const struct portal_state *state, const struct metrics *metrics, uint64_t now, bool draining,
                        char *line, size_t size);
