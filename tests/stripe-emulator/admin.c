/* The emulator's own API, under /_emulator/, for tests to arrange and to look. */
#include "admin.h"

#include "emulator.h"
#include "form.h"
#include "request.h"

#include <errno.h>
#include <string.h>

enum {
    ADMIN_LIMIT = 1000,       /* entries of a list unless `limit` says otherwise */
    ADMIN_LIMIT_MAX = 200000, /* and at most */
};

/* One admin call: what came, and what goes back. */
struct admin {
    struct emulator *emulator;
    struct request *request;
    json_t *given;    /* the body, an empty object where there is none; owned */
    struct form form; /* the query */
    json_t *result;   /* owned */
    char *error;      /* owned */
};

static uint64_t admin_number(const struct admin *admin, const char *name, uint64_t otherwise) {
    const char *text = form_value(&admin->form, name);

    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static size_t admin_limit(const struct admin *admin) {
    uint64_t limit = admin_number(admin, "limit", ADMIN_LIMIT);

    return limit < ADMIN_LIMIT_MAX ? limit : ADMIN_LIMIT_MAX;
}

static int admin_data(struct admin *admin) {
    return objects_merge(&admin->emulator->objects, admin->given, &admin->error);
}

static int admin_reset(struct admin *admin) {
    timers_release(&admin->emulator->timers);
    emulator_reset(admin->emulator, json_is_true(json_object_get(admin->given, "keep_data")));
    return 0;
}

static int admin_calls(struct admin *admin) {
    const char *path = form_value(&admin->form, "path");

    admin->result =
        calls_list(&admin->emulator->calls, admin_number(admin, "since", 0), admin_limit(admin), path ? path : "");
    return 0;
}

static int admin_counters(struct admin *admin) {
    admin->result = counters_show(&admin->emulator->counters, &admin->emulator->connections);
    return 0;
}

static int admin_add_faults(struct admin *admin) {
    json_t *ids = NULL;
    int r = faults_add(&admin->emulator->faults, admin->given, &ids, &admin->error);

    if (r == 0) {
        admin->result = json_pack("{s:o}", "ids", ids);
    }
    return r;
}

static int admin_list_faults(struct admin *admin) {
    admin->result = json_pack("{s:o}", "faults", faults_list(&admin->emulator->faults));
    return 0;
}

static int admin_clear_faults(struct admin *admin) {
    faults_clear(&admin->emulator->faults);
    timers_release(&admin->emulator->timers);
    return 0;
}

static int admin_keys(struct admin *admin) {
    int r = keys_set(&admin->emulator->keys, admin->given);

    admin->error = r < 0 ? memory_copy("keys: {\"accept\": [...], \"restricted\": [...]}") : NULL;
    return r;
}

static int admin_limits(struct admin *admin) {
    int r = limits_set(&admin->emulator->limits, admin->given);

    admin->error = r < 0 ? memory_copy("limits: {\"per_second\": n, \"per_endpoint_per_second\": n}") : NULL;
    return r;
}

static int admin_sessions(struct admin *admin) {
    const struct sessions *sessions = &admin->emulator->sessions;

    admin->result = json_pack("{s:I, s:o}", "made", (json_int_t)sessions->made, "sessions",
                              sessions_list(sessions, admin_number(admin, "since", 0), admin_limit(admin)));
    return 0;
}

static int admin_configurations(struct admin *admin) {
    admin->result = json_pack("{s:o}", "configurations", json_deep_copy(admin->emulator->objects.configurations));
    return 0;
}

static int admin_work(struct admin *admin) {
    static const struct {
        const char *method;
        const char *path;
        int (*work)(struct admin *admin);
    } calls[] = {
        {"POST", "data", admin_data},
        {"POST", "reset", admin_reset},
        {"GET", "calls", admin_calls},
        {"GET", "counters", admin_counters},
        {"POST", "faults", admin_add_faults},
        {"GET", "faults", admin_list_faults},
        {"DELETE", "faults", admin_clear_faults},
        {"POST", "keys", admin_keys},
        {"POST", "limits", admin_limits},
        {"GET", "sessions", admin_sessions},
        {"GET", "configurations", admin_configurations},
    };
    const char *path = admin->request->path + strlen("/_emulator/");

    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(admin->request->method, calls[i].method) == 0 && strcmp(path, calls[i].path) == 0) {
            (void)pthread_mutex_lock(&admin->emulator->lock);
            int r = calls[i].work(admin);

            (void)pthread_mutex_unlock(&admin->emulator->lock);
            return r;
        }
    }
    return -ENOENT;
}

static int admin_read(struct admin *admin) {
    const struct request *request = admin->request;
    json_error_t error = {.line = 0};

    if (request->too_long) {
        admin->error = memory_format("at most %d bytes", REQUEST_BODY_MAX);
        return -EINVAL;
    }
    if (form_parse(&admin->form, request->query ? request->query : "") < 0) {
        admin->error = memory_copy("the query cannot be read");
        return -EINVAL;
    }
    admin->given =
        request->body_length > 0 ? json_loadb(request->body, request->body_length, 0, &error) : json_object();
    if (!admin->given) {
        admin->error = memory_format("not JSON: %s (line %d)", error.text, error.line);
        return -EINVAL;
    }
    return 0;
}

void admin_answer(struct emulator *emulator, struct request *request) {
    struct admin admin = {.emulator = emulator, .request = request};
    int r = admin_read(&admin);

    if (r == 0) {
        r = admin_work(&admin);
    }
    if (r < 0) {
        json_decref(admin.result);
        admin.result = json_pack("{s:s}", "error", admin.error ? admin.error : "there is no such thing");
    } else if (!admin.result) {
        admin.result = json_object();
    }
    answer_json(&request->answer, r == 0 ? 200 : r == -ENOENT ? 404 : 400, admin.result);
    request->phase = REQUEST_ANSWERED;
    json_decref(admin.result);
    json_decref(admin.given);
    form_done(&admin.form);
    free(admin.error);
}
