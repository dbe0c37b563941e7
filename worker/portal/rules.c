/* rules.c — who may have a session: the reference's checks, in the order of the contract. */
#include <string.h>

#include "portal-internal.h"

static bool is_listed(const char *status, char *const *list) {
    for (; status && *list; list++)
        if (strcmp(status, *list) == 0)
            return true;
    return false;
}

enum code rules_apply(const struct request *request, const struct load_row *row, char *const *refused_statuses) {
    if (request->user_id != 0 && !row->user_found)
        return CODE_UNAUTHENTICATED;
    if (!row->team.found)
        return CODE_TEAM_NOT_FOUND;
    if (!row->team.customer || !row->team.product)
        return CODE_NO_SUBSCRIPTION;
    if (request->user_id != 0 && is_listed(row->team.subscription_status, refused_statuses))
        return CODE_SUBSCRIPTION_INACTIVE;

    const char *subscription = json_string_value(json_object_get(request->flow, "subscription"));
    if (subscription && (!row->team.subscription || strcmp(subscription, row->team.subscription) != 0))
        return CODE_SUBSCRIPTION_NOT_FOUND;
    return CODE_NONE;
}
