/* service.h — the running worker: the loop, the links, the core, and the signals that end it. */
#pragma once

#include "daemon/log.h"
#include "daemon/settings.h"

/* Runs until SIGTERM or SIGINT, both of which have to be blocked in every thread, as SIGHUP. Settings may be changed by
 * SIGHUP. Result: 0 after an orderly end, else a negative errno, logged. */
int service_run(struct settings *settings, struct log *log);
