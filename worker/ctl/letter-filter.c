/* letter-filter.c — which letters are meant. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "letter.h"
#include "portalctl.h"

/* Of the worker, then of RabbitMQ; and of a letter that does not say. */
static const char *const reasons[] = {"stripe_unavailable",
                                      "internal_error",
                                      "invalid_request",
                                      "reply_refused",
                                      "forbidden_sender",
                                      "poisonous",
                                      "expired",
                                      "rejected",
                                      "maxlen",
                                      "delivery_limit",
                                      "unknown"};

static bool is_reason(const char *word) {
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (strcmp(reasons[i], word) == 0)
            return true;
    return false;
}

/* A misspelt one would match nothing, which looks as if all were well; an empty list, of a variable that is not set,
 * would match all. */
static int add_reasons(struct letter_filter *filter, const char *title, char *list) {
    size_t count = 0;
    char *rest = NULL;
    if (!list[strspn(list, ", ")])
        return ctl_misused(title, "--reason is empty: \"portalctl dead --help\" has the reasons");
    while (filter->reasons[count])
        count++;
    for (char *reason = strtok_r(list, ", ", &rest); reason; reason = strtok_r(NULL, ", ", &rest)) {
        if (!is_reason(reason))
            return ctl_misused(title, "--reason \"%s\": \"portalctl dead --help\" has the reasons", reason);
        if (count == FILTER_REASONS_MAX)
            return ctl_misused(title, "--reason: at most %d", FILTER_REASONS_MAX);
        filter->reasons[count++] = reason;
    }
    return 0;
}

int filter_option(struct letter_filter *filter, const char *title, int option) {
    switch (option) {
    case 'r':
        return add_reasons(filter, title, optarg);
    case 's':
        return ctl_read_time(title, "--since", optarg, &filter->since);
    case 'u':
        return ctl_read_time(title, "--until", optarg, &filter->until);
    case 't':
        return ctl_read_number(title, "--team", optarg, 1, INT64_MAX, &filter->team);
    case 'a':
        filter->all = true;
        return 0;
    default:
        return ctl_unknown(title);
    }
}

int filter_names(struct letter_filter *filter, char **names) {
    size_t count = 0;
    while (names[count])
        count++;
    filter->names = names;
    filter->found = calloc(count + 1, sizeof *filter->found);
    return filter->found ? 0 : ctl_complain(CTL_FAILED, NULL, "out of memory");
}

bool filter_is_set(const struct letter_filter *filter) {
    return filter->all || filter->reasons[0] || filter->since || filter->until || filter->team || filter->names[0];
}

static bool is_named(struct letter_filter *filter, const struct letter *letter) {
    bool named = !filter->names[0];
    for (size_t i = 0; filter->names[i]; i++)
        if (strcmp(filter->names[i], letter->handle) == 0 ||
            (letter->request_id && strcmp(filter->names[i], letter->request_id) == 0))
            named = filter->found[i] = true;
    return named;
}

bool filter_matches(struct letter_filter *filter, const struct letter *letter) {
    bool reason = !filter->reasons[0];
    for (size_t i = 0; filter->reasons[i]; i++)
        reason |= strcmp(filter->reasons[i], letter->reason) == 0;
    return is_named(filter, letter) && reason && (!filter->since || letter->died_at >= filter->since) &&
           (!filter->until || (letter->died_at > 0 && letter->died_at < filter->until)) &&
           (!filter->team || (uint64_t)letter->team_id == filter->team);
}

bool filter_tell_missing(const struct letter_filter *filter) {
    bool missing = false;
    for (size_t i = 0; filter->names[i]; i++)
        if (!filter->found[i]) {
            (void)ctl_complain(0, NULL, "%s: there is no such letter, nor a letter of that request", filter->names[i]);
            missing = true;
        }
    return !missing;
}

void filter_clear(struct letter_filter *filter) {
    free(filter->found);
    filter->found = NULL;
}
