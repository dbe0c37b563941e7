/* Idempotency keys: what each was used for, and what it was answered. */
#include "idempotency.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct idempotency_entry {
    struct idempotency_entry *in_bucket; /* the next one */
    struct idempotency_entry *newer;
    size_t bytes;
    double time;
    bool running;
    unsigned status;
    char request_id[32];
    char code[48];
    const char *content_type;
    char *body;
    char *key;
    char *fingerprint;
};

void idempotency_begin(struct idempotency *keys) {
    *keys = (struct idempotency){.buckets = memory_get(IDEMPOTENCY_BUCKETS * sizeof(struct idempotency_entry *))};
}

/* FNV-1a: the keys come from tests, which do not attack. */
static size_t idempotency_hash(const char *key) {
    uint64_t hash = 0xcbf29ce484222325;

    for (; *key; key++) {
        hash = (hash ^ (unsigned char)*key) * 0x100000001b3;
    }
    return (hash ^ hash >> 32) % IDEMPOTENCY_BUCKETS;
}

static struct idempotency_entry *idempotency_find(const struct idempotency *keys, const char *key) {
    struct idempotency_entry *entry = keys->buckets[idempotency_hash(key)];

    while (entry && strcmp(entry->key, key) != 0) {
        entry = entry->in_bucket;
    }
    return entry;
}

static void idempotency_remove_oldest(struct idempotency *keys) {
    struct idempotency_entry *entry = keys->oldest;
    struct idempotency_entry **link = &keys->buckets[idempotency_hash(entry->key)];

    while (*link != entry) {
        link = &(*link)->in_bucket;
    }
    *link = entry->in_bucket;
    keys->oldest = entry->newer;
    keys->newest = keys->oldest ? keys->newest : NULL;
    keys->count--;
    keys->bytes -= entry->bytes;
    free(entry->body);
    free(entry->key);
    free(entry->fingerprint);
    free(entry);
}

void idempotency_done(struct idempotency *keys) {
    while (keys->oldest) {
        idempotency_remove_oldest(keys);
    }
    free(keys->buckets);
    *keys = (struct idempotency){0};
}

static void idempotency_make_room(struct idempotency *keys, double now) {
    while (keys->oldest && !keys->oldest->running &&
           (keys->count >= IDEMPOTENCY_KEPT || keys->bytes >= IDEMPOTENCY_BYTES_MAX ||
            keys->oldest->time + IDEMPOTENCY_SECONDS < now)) {
        idempotency_remove_oldest(keys);
    }
}

static void idempotency_add(struct idempotency *keys, const char *key, const char *fingerprint, double now) {
    struct idempotency_entry *entry = memory_get(sizeof *entry);
    struct idempotency_entry **bucket = &keys->buckets[idempotency_hash(key)];

    *entry = (struct idempotency_entry){
        .in_bucket = *bucket,
        .bytes = strlen(key) + strlen(fingerprint) + sizeof *entry,
        .time = now,
        .running = true,
        .key = memory_copy(key),
        .fingerprint = memory_copy(fingerprint),
    };
    *bucket = entry;
    *(keys->newest ? &keys->newest->newer : &keys->oldest) = entry;
    keys->newest = entry;
    keys->count++;
    keys->bytes += entry->bytes;
}

static int idempotency_mismatch(const struct idempotency_entry *entry, const char *key, const char *fingerprint,
                                struct answer *answer) {
    int old = (int)strcspn(entry->fingerprint, "\n");
    int new = (int)strcspn(fingerprint, "\n");

    if (old != new || strncmp(entry->fingerprint, fingerprint, (size_t)old) != 0) {
        answer_error(answer, 400, "idempotency_error", NULL, NULL,
                     "Keys for idempotent requests can only be used for the same endpoint they were first used for "
                     "('%.*s' vs '%.*s'). Try using a key other than '%s' if you meant to execute a different request.",
                     new - 5, fingerprint + 5, old - 5, entry->fingerprint + 5, key);
    } else {
        answer_error(answer, 400, "idempotency_error", NULL, NULL,
                     "Keys for idempotent requests can only be used with the same parameters they were first used "
                     "with. Try using a key other than '%s' if you meant to execute a different request.",
                     key);
    }
    return -EINVAL;
}

int idempotency_claim(struct idempotency *keys, const char *key, const char *fingerprint, double now,
                      struct answer *answer) {
    const char *shown = strchr(key, '/') + 1; /* the caller puts the mode before it */

    idempotency_make_room(keys, now);
    const struct idempotency_entry *entry = idempotency_find(keys, key);

    if (!entry) {
        idempotency_add(keys, key, fingerprint, now);
        (void)snprintf(answer->original_request, sizeof answer->original_request, "%s", answer->request_id);
        return 0;
    }
    if (entry->running) {
        answer_error(answer, 409, "idempotency_error", "idempotency_key_in_use", NULL,
                     "There is currently another in-progress request using this Idempotent Key (that probably means "
                     "you submitted twice, and the other request is still going through): %s. Please try again later.",
                     shown);
        return -EBUSY;
    }
    if (strcmp(entry->fingerprint, fingerprint) != 0) {
        return idempotency_mismatch(entry, shown, fingerprint, answer);
    }
    answer->status = entry->status;
    answer->body = memory_copy(entry->body);
    answer->content_type = entry->content_type;
    answer->replayed = true;
    memcpy(answer->code, entry->code, sizeof answer->code);
    memcpy(answer->original_request, entry->request_id, sizeof answer->original_request);
    return -EEXIST;
}

void idempotency_save(struct idempotency *keys, const char *key, const struct answer *answer) {
    struct idempotency_entry *entry = idempotency_find(keys, key);

    if (!entry || !entry->running) {
        return;
    }
    entry->running = false;
    entry->status = answer->status;
    entry->body = memory_copy(answer->body);
    entry->content_type = answer->content_type;
    entry->bytes += strlen(entry->body);
    keys->bytes += strlen(entry->body);
    memcpy(entry->code, answer->code, sizeof entry->code);
    memcpy(entry->request_id, answer->request_id, sizeof entry->request_id);
}
