/* connector.h — a helper thread for what would block the loop (resolving names, connecting, logging in): it runs one
 * function at a time and says on the loop that it has returned. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

struct connector;

/* One piece of blocking work. While it is under way it belongs to the thread: nothing of it may be shared with the
 * loop. */
struct connector_work {
    void (*run)(void *job);  /* on the thread; may block; must end by time-outs of its own */
    void (*drop)(void *job); /* frees the job and what it came by, where nobody is left to take it; on the thread */
    void *job;
};

/* Called on the loop when run() has returned; the job is the callee's from then on. The callee may begin the next work,
 * and may free the connector. */
typedef void (*connector_done)(void *userdata, void *job);

/* Result: 0 or a negative errno; `*ret` is the caller's, freed with connector_free(). The connector keeps a reference
 * to the loop; `userdata` is borrowed. */
int connector_new(sd_event *event, connector_done done, void *userdata, struct connector **ret);

/* Never waits. Work still under way is orphaned: when it returns, its thread drops the job, and `done` is not called.
 */
void connector_free(struct connector *connector);

/* Runs `work` (copied) on a thread of its own, with all signals blocked. Result: 0, and the job is the connector's
 * until `done`; -EBUSY while another is under way; else a negative errno. On failure the job stays the caller's. */
int connector_begin(struct connector *connector, const struct connector_work *work);

/* Whether work is under way. */
bool connector_busy(const struct connector *connector);

/* Orphans the work under way, as connector_free() does, so that other work can begin at once. */
void connector_cancel(struct connector *connector);
