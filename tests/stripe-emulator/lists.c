/* Pages of objects, and `expand`, as all of Stripe's lists have them. */
#include "lists.h"

#include <string.h>

enum { LIST_LIMIT = 10 /* objects on a page unless `limit` says otherwise, docs.stripe.com/api/pagination */ };

static const char *list_text(const json_t *parameters, const char *name) {
    return json_string_value(json_object_get(parameters, name));
}

/* The place of a cursor among all objects, or their number where there is no such object. */
static size_t list_find(const struct list *list, const char *id) {
    size_t index;
    json_t *object;

    json_array_foreach((json_t *)list->objects, index, object) {
        if (strcmp(json_string_value(json_object_get(object, "id")), id) == 0) {
            break;
        }
    }
    return index;
}

/* Takes up to `limit` shown objects from `at` on, going up or down; whether there was one more. */
static bool list_take(const struct list *list, size_t at, bool up, size_t limit, json_t *data) {
    size_t count = json_array_size(list->objects);

    /* Downwards ends by wrapping around below 0. */
    for (; at < count; at = up ? at + 1 : at - 1) {
        const json_t *object = json_array_get(list->objects, at);

        if (list->shows(object, list->context)) {
            if (json_array_size(data) == limit) {
                return true;
            }
            json_array_insert_new(data, up ? 0 : json_array_size(data), list->render(object, list->context));
        }
    }
    return false;
}

int list_answer(const struct list *list, const json_t *parameters, struct answer *answer) {
    _cleanup_json_ json_t *data = json_array();
    const json_t *limit = json_object_get(parameters, "limit");
    const char *after = list_text(parameters, "starting_after");
    const char *before = list_text(parameters, "ending_before");
    size_t at = json_array_size(list->objects) - 1;

    if (after && before) {
        return answer_invalid(answer, "parameters_exclusive", "starting_after",
                              "Received both starting_after and ending_before parameters. Please pass in only one.");
    }
    if (after || before) {
        size_t cursor = list_find(list, after ? after : before);

        if (cursor == json_array_size(list->objects)) {
            return answer_missing(answer, 400, list->kind, after ? after : before,
                                  after ? "starting_after" : "ending_before");
        }
        at = after ? cursor - 1 : cursor + 1;
    }
    bool more = list_take(list, at, before != NULL, limit ? (size_t)json_integer_value(limit) : LIST_LIMIT, data);
    _cleanup_json_ json_t *page =
        json_pack("{s:s, s:O, s:b, s:s}", "object", "list", "data", data, "has_more", more, "url", list->url);

    answer_json(answer, 200, page);
    return 0;
}

bool expand_wants(const json_t *parameters, const char *property) {
    size_t index;
    json_t *wanted;

    json_array_foreach(json_object_get(parameters, "expand"), index, wanted) {
        if (strcmp(json_string_value(wanted), property) == 0) {
            return true;
        }
    }
    return false;
}

int expand_check(const json_t *parameters, const char *const *allowed, struct answer *answer) {
    size_t index;
    json_t *wanted;

    json_array_foreach(json_object_get(parameters, "expand"), index, wanted) {
        size_t i = 0;

        while (allowed[i] && strcmp(allowed[i], json_string_value(wanted)) != 0) {
            i++;
        }
        if (!allowed[i]) {
            return answer_invalid(answer, NULL, "expand", "This property cannot be expanded (%s).",
                                  json_string_value(wanted));
        }
    }
    return 0;
}
