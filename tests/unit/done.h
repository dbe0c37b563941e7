/* done.h — a request that was answered, as the core tells it. */
#pragma once

#include "portal/event.h"

static const struct event done = {.kind = EVENT_REQUEST_DONE,
                                  .request_id = "r-1",
                                  .outcome = "created",
                                  .team_id = 7,
                                  .user_id = 9,
                                  .generation = 2,
                                  .status = 200,
                                  .duration_us = 12345,
                                  .queued_us = 5000,
                                  .stage_us = {[STAGE_LOADING] = 2000, [STAGE_CALLING] = 9000}};
