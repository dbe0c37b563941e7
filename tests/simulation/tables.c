/* tables.c — what the statements do: portal.sessions and its neighbours, as links.h, sql/ and DESIGN.md describe them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "promises.h"
#include "world.h"

enum { BUCKETS = 256, TOKENS_MAX = 8, CONFIGURATIONS_MAX = 32 };

struct configuration_table_row {
    char key[160], id[64], product[64], fingerprint[64];
    bool has_id, has_product, has_fingerprint, managed;
    uint32_t forgotten;
    uint64_t checked_at, leased_until;
    char leased_by[32];
};

struct token_table_row {
    char endpoint[32];
    uint64_t next_at, slowed_until;
};

struct suspect_row {
    struct suspect_row *next;
    uint64_t digest;
    char worker[32];
};

struct database {
    struct table_row *by_ask[BUCKETS]; /* those that may be reused */
    struct configuration_table_row configurations[CONFIGURATIONS_MAX];
    unsigned configuration_count;
    struct token_table_row tokens[TOKENS_MAX];
    unsigned token_count;
    struct suspect_row *suspects;
};

/* ---- texts ---- */

static char *copy(const char *text) {
    char *copied = text ? strdup(text) : NULL;
    if (text && !copied)
        abort();
    return copied;
}

static void copy_to(char *to, size_t size, const char *from, bool *has) {
    int length = snprintf(to, size, "%s", from ? from : "");
    if (length < 0 || (size_t)length >= size)
        abort();
    if (has)
        *has = from != NULL;
}

static uint32_t id_of(const char *request_id) {
    return (uint32_t)strtoul(request_id + 1, NULL, 10);
}

void table_row_free(struct table_row *row) {
    free(row->ask);
    free(row->answer);
    free(row->url);
    free(row);
}

/* ---- reading ---- */

static bool has_url(const struct world *world, const struct table_row *row) {
    return row->url && row->url_expires > world_wall(world); /* then it is wiped */
}

static bool stands(const struct world *world, const struct table_row *row) {
    return row->stands_until > world_wall(world) && (!row->has_session || has_url(world, row));
}

static void load_stored(const struct world *world, struct load_row *row) {
    const struct table_row *stored = world->requests[id_of(row->request_id)].row;
    row->stored.found = stored != NULL;
    if (!stored)
        return;
    row->stored.generation = stored->generation;
    row->stored.same_ask = strcmp(stored->ask, row->ask) == 0;
    if (!row->stored.same_ask)
        return;
    row->stored.stands = stands(world, stored);
    row->stored.answer = copy(stored->answer);
    row->stored.url = has_url(world, stored) ? copy(stored->url) : NULL;
}

static char *numbered(const char *prefix, unsigned number) {
    char text[32];
    (void)snprintf(text, sizeof text, "%s%u", prefix, number);
    return copy(text);
}

static void load_team(const struct world *world, struct load_row *row) {
    const struct scenario *scenario = world->scenario;
    int64_t team = row->team_id;
    if (row->user_id > 0) {
        enum user_kind kind = row->user_id > USERS_MAX ? USER_MISSING : scenario->user_kinds[row->user_id];
        row->user_found = kind == USER_MEMBER || kind == USER_ALONE;
        int64_t member_of = kind == USER_MEMBER ? scenario->user_teams[row->user_id] : 0;
        team = team == 0 || team == member_of ? member_of : 0;
    }
    if (team == 0 || team > TEAMS_MAX || scenario->team_kinds[team] == TEAM_MISSING)
        return;
    enum team_kind kind = scenario->team_kinds[team];
    row->team.found = true;
    row->team.id = team;
    if (kind != TEAM_NO_CUSTOMER)
        row->team.customer = numbered("cus_", (unsigned)team + CUSTOMER_STEP * world->team_changed[team]);
    if (kind != TEAM_NO_PRODUCT)
        row->team.product = numbered("prod_", scenario->team_products[team]);
    row->team.subscription = numbered("sub_", (unsigned)team);
    row->team.subscription_status = copy(kind == TEAM_CANCELED ? "canceled" : "active");
}

static void load_reusable(const struct world *world, struct load_row *row) {
    uint64_t hash = hash_bytes(row->ask, strlen(row->ask));
    uint64_t since = world_wall(world) - world->scenario->settings.session_reuse_seconds * SECOND_US;
    const struct table_row *best = NULL, *found;
    if (!row->want_reuse || !row->team.customer)
        return;
    for (found = world->database->by_ask[hash % BUCKETS]; found; found = found->next_same)
        if (found->ask_hash == hash && strcmp(found->ask, row->ask) == 0 && has_url(world, found) && !found->fresh &&
            found->session_created > since && found->stands_until > world_wall(world) &&
            strcmp(found->customer, row->team.customer) == 0 &&
            (!best || found->session_created > best->session_created))
            best = found;
    if (!best)
        return;
    row->reusable.answer = copy(best->answer);
    row->reusable.url = copy(best->url);
}

static enum store_status load(struct world *world, struct store_task *task) {
    for (size_t i = 0; i < task->load.count; i++) {
        struct load_row *row = task->load.rows[i];
        load_stored(world, row);
        load_team(world, row);
        load_reusable(world, row);
    }
    task->database_now = world_wall(world);
    return STORE_DONE;
}

/* ---- saving ---- */

static int64_t number_of(const char *session_id) {
    return session_id ? (int64_t)strtoul(session_id + 4, NULL, 10) : -1;
}

static enum code code_of(const char *name) {
    for (int code = CODE_NONE + 1; name && code <= CODE_POISONOUS; code++)
        if (strcmp(name, code_name((enum code)code)) == 0)
            return (enum code)code;
    return CODE_NONE;
}

static struct table_row *keep_row(struct world *world, const struct save_row *from) {
    struct table_row *row = calloc(1, sizeof *row);
    if (!row)
        abort();
    row->id = id_of(from->request_id);
    row->generation = from->generation;
    row->ask = copy(from->ask);
    row->ask_hash = hash_bytes(from->ask, strlen(from->ask));
    row->answer = copy(from->answer);
    row->url = copy(from->url);
    row->fresh = from->fresh;
    row->has_session = from->session_id != NULL;
    row->session = number_of(from->session_id);
    row->code = code_of(from->code);
    row->bad = world->requests[row->id].bad;
    copy_to(row->customer, sizeof row->customer, from->customer, NULL);
    row->session_created = (uint64_t)from->session_created * SECOND_US;
    row->stands_until = from->stands_seconds * SECOND_US; /* from when it is executed, or from the session's making */
    row->url_expires = row->session_created + world->scenario->settings.session_seconds * SECOND_US;
    return row;
}

static struct table_row **find_in_index(struct world *world, const struct table_row *row) {
    struct table_row **at = &world->database->by_ask[row->ask_hash % BUCKETS];
    while (*at && *at != row)
        at = &(*at)->next_same;
    return at;
}

static void put_row(struct world *world, struct table_row *row) {
    struct request_state *request = &world->requests[row->id];
    row->stands_until += row->has_session ? row->session_created : world_wall(world);
    if (request->row) {
        struct table_row **at = find_in_index(world, request->row);
        if (*at)
            *at = request->row->next_same;
        table_row_free(request->row);
    }
    request->row = row;
    if (row->has_session && !row->fresh) {
        row->next_same = world->database->by_ask[row->ask_hash % BUCKETS];
        world->database->by_ask[row->ask_hash % BUCKETS] = row;
    }
}

static void tell_standing(const struct world *world, const struct table_row *row, struct save_row *save) {
    save->standing.written = false;
    save->standing.generation = row->generation;
    save->standing.same_ask = strcmp(row->ask, save->ask) == 0;
    save->standing.stands = save->standing.same_ask && stands(world, row);
    if (!save->standing.same_ask)
        return;
    save->standing.answer = copy(row->answer);
    save->standing.url = has_url(world, row) ? copy(row->url) : NULL;
}

static enum store_status save(struct world *world, struct statement *statement) {
    for (size_t i = 0; i < statement->count; i++)
        if (statement->rows[i]->bad)
            return STORE_BAD_VALUE;
    for (size_t i = 0; i < statement->count; i++) {
        struct table_row *row = statement->rows[i], *standing = world->requests[row->id].row;
        struct save_row *told = statement->task ? statement->task->save.rows[i] : NULL;
        bool replaces = !standing || (row->generation > standing->generation && strcmp(row->ask, standing->ask) == 0);
        if (replaces) {
            put_row(world, row);
            statement->rows[i] = NULL;
            if (told) {
                told->standing.written = true;
                told->standing.stands = stands(world, row);
            }
        } else if (told)
            tell_standing(world, standing, told);
    }
    if (statement->task)
        statement->task->database_now = world_wall(world);
    return STORE_DONE;
}

/* ---- configurations ---- */

static struct configuration_table_row *row_find(struct database *database, const char *key, bool make) {
    for (unsigned i = 0; i < database->configuration_count; i++)
        if (strcmp(database->configurations[i].key, key) == 0)
            return &database->configurations[i];
    if (!make)
        return NULL;
    if (database->configuration_count == CONFIGURATIONS_MAX)
        abort();
    struct configuration_table_row *row = &database->configurations[database->configuration_count++];
    copy_to(row->key, sizeof row->key, key, NULL);
    return row;
}

static void tell_configuration(const struct world *world, const struct configuration_table_row *row,
                               struct configuration_row *told) {
    if (!told || !row)
        return;
    told->id = row->has_id ? copy(row->id) : NULL;
    told->product = row->has_product ? copy(row->product) : NULL;
    told->fingerprint = row->has_fingerprint ? copy(row->fingerprint) : NULL;
    told->managed = row->managed;
    told->forgotten = row->forgotten;
    told->checked_ago = row->has_id ? (world_wall(world) - row->checked_at) / SECOND_US : 0;
}

/* Rows are keyed "account/mode/scope", calls "scope:forgotten:n". */
bool tables_holds_lease(const struct world *world, const char *key, const char *worker) {
    const struct database *database = world->database;
    for (unsigned i = 0; i < database->configuration_count; i++) {
        const struct configuration_table_row *row = &database->configurations[i];
        const char *scope = strchr(strchr(row->key, '/') + 1, '/') + 1;
        size_t length = strlen(scope);
        if (strncmp(key, scope, length) == 0 && key[length] == ':')
            return strcmp(row->leased_by, worker) == 0 && row->leased_until > world_wall(world);
    }
    return false;
}

static void row_lease(struct world *world, const struct statement *statement, struct configuration_row *told) {
    struct configuration_table_row *row = row_find(world->database, statement->key, true);
    uint64_t now = world_wall(world);
    bool granted = row->leased_until <= now || strcmp(row->leased_by, statement->holder) == 0;
    if (granted) {
        copy_to(row->leased_by, sizeof row->leased_by, statement->holder, NULL);
        row->leased_until = now + statement->lease_seconds * SECOND_US;
    }
    tell_configuration(world, row, told);
    if (told) {
        told->leased = granted;
        told->retry_ms = granted ? 0 : (uint32_t)((row->leased_until - now) / 1000 + 1);
    }
}

static void row_keep(struct world *world, const struct statement *statement, struct configuration_row *told) {
    struct configuration_table_row *row = row_find(world->database, statement->key, true);
    uint64_t now = world_wall(world);
    bool kept = (row->leased_until <= now || strcmp(row->leased_by, statement->holder) == 0) &&
                row->forgotten == statement->forgotten;
    if (statement->managed && !statement->has_product)
        violate(world, NULL, "a configuration that is made for a product is kept with it", "%s", statement->id);
    if (kept) {
        copy_to(row->id, sizeof row->id, statement->has_id ? statement->id : NULL, &row->has_id);
        copy_to(row->product, sizeof row->product, statement->has_product ? statement->product : NULL,
                &row->has_product);
        copy_to(row->fingerprint, sizeof row->fingerprint, statement->has_fingerprint ? statement->fingerprint : NULL,
                &row->has_fingerprint);
        row->managed = statement->managed;
        row->checked_at = now;
        row->leased_until = 0;
        row->leased_by[0] = '\0';
    }
    if (told)
        told->leased = kept;
}

static void row_release(struct world *world, const struct statement *statement) {
    struct configuration_table_row *row = row_find(world->database, statement->key, false);
    if (!row || strcmp(row->leased_by, statement->holder) != 0)
        return;
    row->leased_until = 0;
    row->leased_by[0] = '\0';
}

static void row_forget(struct world *world, const struct statement *statement) {
    struct configuration_table_row *row = row_find(world->database, statement->key, false);
    if (!row || !row->has_id || strcmp(row->id, statement->id) != 0)
        return;
    row->has_id = row->has_product = row->has_fingerprint = row->managed = false;
    row->forgotten++;
}

static enum store_status configure(struct world *world, const struct statement *statement) {
    struct configuration_row *told = statement->task ? &statement->task->configuration : NULL;
    switch (statement->kind) {
    case STORE_CONFIGURATION_FIND:
        tell_configuration(world, row_find(world->database, statement->key, false), told);
        break;
    case STORE_CONFIGURATION_LEASE:
        row_lease(world, statement, told);
        break;
    case STORE_CONFIGURATION_KEEP:
        row_keep(world, statement, told);
        break;
    case STORE_CONFIGURATION_RELEASE:
        row_release(world, statement);
        break;
    default:
        row_forget(world, statement);
        break;
    }
    return STORE_DONE;
}

/* ---- send times ---- */

static struct token_table_row *find_tokens(struct database *database, const char *endpoint) {
    for (unsigned i = 0; i < database->token_count; i++)
        if (strcmp(database->tokens[i].endpoint, endpoint) == 0)
            return &database->tokens[i];
    if (database->token_count == TOKENS_MAX)
        abort();
    struct token_table_row *row = &database->tokens[database->token_count++];
    copy_to(row->endpoint, sizeof row->endpoint, endpoint, NULL);
    return row;
}

static enum store_status tokens(struct world *world, struct store_task *task, const char *endpoint) {
    struct token_table_row *row = find_tokens(world->database, endpoint);
    uint64_t now = world_wall(world);
    if (!task)
        return STORE_DONE; /* a run that nobody uses costs nothing but time */
    uint64_t first = row->next_at > now ? row->next_at : now;
    uint64_t spacing = task->tokens.interval_us * (row->slowed_until > now ? 2 : 1);
    row->next_at = first + task->tokens.wanted * spacing;
    task->tokens.first_us = first - now;
    task->tokens.spacing_us = spacing;
    return STORE_DONE;
}

static enum store_status slow_down(struct world *world, const struct store_task *task, const char *endpoint) {
    struct token_table_row *row = find_tokens(world->database, endpoint);
    uint64_t now = world_wall(world);
    if (!task)
        return STORE_DONE;
    if (row->next_at < now + task->tokens.wait_us)
        row->next_at = now + task->tokens.wait_us;
    if (row->slowed_until < now + task->tokens.wait_us + task->tokens.slow_us)
        row->slowed_until = now + task->tokens.wait_us + task->tokens.slow_us;
    return STORE_DONE;
}

/* ---- suspects ---- */

/* Another worker that has the same message, or one just like it, in hand at this moment has not crashed on it; yet
 * nobody can tell that from its row. */
static void note_live_tries(const struct world *world, const struct statement *statement) {
    unsigned live = 0;
    for (const struct suspect_row *row = world->database->suspects; row; row = row->next)
        for (unsigned i = 0; row->digest == statement->digest && i < world->scenario->workers; i++)
            live += worker_runs(&world->workers[i]) && strcmp(world->workers[i].name, row->worker) == 0 &&
                    strcmp(row->worker, statement->holder) != 0;
    statement->suspect->live_tries = live;
}

static enum store_status suspect_add(struct world *world, const struct statement *statement) {
    struct database *database = world->database;
    struct suspect_row *row = world_alloc(world, sizeof *row);
    uint32_t tries = 1 + statement->suspect->tries;
    for (const struct suspect_row *other = database->suspects; other; other = other->next)
        tries += other->digest == statement->digest && strcmp(other->worker, statement->holder) != 0;
    note_live_tries(world, statement);
    *row = (struct suspect_row){.next = database->suspects, .digest = statement->digest};
    copy_to(row->worker, sizeof row->worker, statement->holder, NULL);
    database->suspects = row;
    if (statement->task)
        statement->task->suspect.tries = tries;
    return STORE_DONE;
}

static enum store_status suspect_remove(struct world *world, const struct statement *statement) {
    struct suspect_row **at = &world->database->suspects;
    if (statement->managed)
        statement->suspect->tries = 0;
    while (*at)
        if ((*at)->digest == statement->digest && (statement->managed || strcmp((*at)->worker, statement->holder) == 0))
            *at = (*at)->next;
        else
            at = &(*at)->next;
    return STORE_DONE;
}

/* ---- all ---- */

static void prepare_suspect(struct statement *statement, const struct store_task *task) {
    const struct suspect *suspect = &task->suspect;
    const struct job *job = OWNER(task, const struct job, suspect_task);
    statement->suspect = OWNER(job->delivery, struct handed, delivery)->parcel->message;
    const char *id = suspect->message_id ? suspect->message_id : "";
    copy_to(statement->holder, sizeof statement->holder, suspect->worker, NULL);
    statement->managed = suspect->all;
    statement->digest = hash_bytes(id, strlen(id)) * 31 + hash_bytes(suspect->body, suspect->body_length);
}

static void prepare_configuration(struct statement *statement, const struct configuration_row *row) {
    copy_to(statement->key, sizeof statement->key, row->key, NULL);
    copy_to(statement->holder, sizeof statement->holder, row->holder, NULL);
    copy_to(statement->id, sizeof statement->id, row->id, &statement->has_id);
    copy_to(statement->product, sizeof statement->product, row->product, &statement->has_product);
    copy_to(statement->fingerprint, sizeof statement->fingerprint, row->fingerprint, &statement->has_fingerprint);
    statement->lease_seconds = row->lease_seconds;
    statement->forgotten = row->forgotten;
    statement->managed = row->managed;
}

void tables_prepare(struct world *world, struct statement *statement, const struct store_task *task) {
    switch (task->kind) {
    case STORE_SAVE:
        statement->count = task->save.count;
        statement->rows = calloc(task->save.count, sizeof(struct table_row *));
        if (!statement->rows)
            abort();
        for (size_t i = 0; i < task->save.count; i++)
            statement->rows[i] = keep_row(world, task->save.rows[i]);
        break;
    case STORE_TOKENS:
    case STORE_SLOW_DOWN:
        copy_to(statement->key, sizeof statement->key, task->tokens.endpoint, NULL);
        break;
    case STORE_SUSPECT_ADD:
    case STORE_SUSPECT_REMOVE:
        prepare_suspect(statement, task);
        break;
    case STORE_LOAD:
    case STORE_HEARTBEAT:
        break;
    default:
        prepare_configuration(statement, &task->configuration);
        break;
    }
}

enum store_status tables_execute(struct world *world, struct statement *statement) {
    switch (statement->kind) {
    case STORE_LOAD:
        return load(world, statement->task);
    case STORE_SAVE:
        return save(world, statement);
    case STORE_TOKENS:
        return tokens(world, statement->task, statement->key);
    case STORE_SLOW_DOWN:
        return slow_down(world, statement->task, statement->key);
    case STORE_SUSPECT_ADD:
        return suspect_add(world, statement);
    case STORE_SUSPECT_REMOVE:
        return suspect_remove(world, statement);
    case STORE_HEARTBEAT:
        return STORE_DONE;
    default:
        return configure(world, statement);
    }
}

static void undo_load(struct load_row *row) {
    struct load_row asked = *row;
    load_row_clear(row);
    row->request_id = asked.request_id;
    row->ask = asked.ask;
    row->team_id = asked.team_id;
    row->user_id = asked.user_id;
    row->want_reuse = asked.want_reuse;
}

static void undo_save(struct save_row *row) {
    struct save_row asked = *row;
    save_row_clear(row);
    memset(&asked.standing, 0, sizeof asked.standing);
    *row = asked;
}

void tables_undo(struct store_task *task) {
    if (task->kind == STORE_LOAD)
        for (size_t i = 0; i < task->load.count; i++)
            undo_load(task->load.rows[i]);
    else if (task->kind == STORE_SAVE)
        for (size_t i = 0; i < task->save.count; i++)
            undo_save(task->save.rows[i]);
    else if (task->kind == STORE_CONFIGURATION_FIND || task->kind == STORE_CONFIGURATION_LEASE) {
        configuration_row_clear(&task->configuration);
        task->configuration.leased = false;
    }
    task->database_now = 0;
}

void tables_new(struct world *world) {
    world->database = calloc(1, sizeof *world->database);
    if (!world->database)
        abort();
}

void tables_free(struct world *world) {
    for (unsigned i = 0; i < world->scenario->ids; i++)
        if (world->requests[i].row)
            table_row_free(world->requests[i].row);
    free(world->database);
}
