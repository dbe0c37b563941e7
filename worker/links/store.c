/* store.c — PostgreSQL on the loop: tasks go out over one connection in pipeline mode, each with a sync of its own and
 * so in a transaction of its own, and come back in order. A lost connection is replaced by a helper thread. */
#include "links/store.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "links/connector.h"
#include "links/database.h"
#include "portal/portal.h"
#include "store-internal.h"

enum {
    CAUSE_SIZE = 512,
    RETRY_MIN_US = 500 * 1000, /* between two attempts to connect, plus as much again at random at most */
    LIVED_US = 1000 * 1000,    /* a connection that was up this long is replaced at once */
};

/* Tasks in the order they came in, linked by their own `next`. */
struct task_list {
    struct store_task *first, *last;
};

struct store {
    const struct store_settings *settings;
    sd_event *event;
    struct portal *portal;
    struct connector *connector;
    struct statement_context context;
    struct parameters parameters;
    struct store_task wipe; /* the store's own task */
    bool wiping;

    PGconn *connection;
    sd_event_source *io;
    PGresult *result;         /* what came back for the first pending task; final with its sync */
    struct task_list pending; /* sent */
    uint64_t pending_since;   /* since when the first pending task is the one to be answered; monotonic */
    uint64_t up_since;
    sd_event_source *patience; /* when the first pending task is given up */

    bool broken; /* the connection is of no more use; `deferred` will end it */
    char cause[CAUSE_SIZE];
    struct task_list lost; /* to be told STORE_LOST by `deferred` */
    sd_event_source *deferred;
    sd_event_source *retry;
};

/* What the helper thread works on; it may outlive the store, so it has texts of its own. */
struct connect_job {
    struct store_settings settings;
    char *url, *account, *worker;
    PGconn *connection;
    char cause[CAUSE_SIZE];
};

/* ---- lists ---- */

static void list_append(struct task_list *list, struct store_task *task) {
    task->next = NULL;
    if (list->last)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
}

static struct store_task *list_take(struct task_list *list) {
    struct store_task *task = list->first;
    list->first = task->next;
    if (!list->first)
        list->last = NULL;
    task->next = NULL;
    return task;
}

static void list_move(struct task_list *to, struct task_list *from) {
    while (from->first)
        list_append(to, list_take(from));
}

static uint64_t now(struct store *store) {
    uint64_t usec = 0;
    (void)sd_event_now(store->event, CLOCK_MONOTONIC, &usec); /* fails only with a wrong clock or after a fork */
    return usec;
}

/* ---- helper thread ---- */

static void connect_job_drop(void *userdata) {
    struct connect_job *job = userdata;
    PQfinish(job->connection);
    free(job->url);
    free(job->account);
    free(job->worker);
    free(job);
}

static void connect_job_run(void *userdata) {
    struct connect_job *job = userdata;
    job->connection = store_connect(&job->settings, job->cause, sizeof job->cause);
    if (!job->connection)
        return;
    if (PQenterPipelineMode(job->connection) && PQsetnonblocking(job->connection, 1) == 0)
        return;
    snprintf(job->cause, sizeof job->cause, "no connection to PostgreSQL: libpq refuses pipeline mode");
    PQfinish(job->connection);
    job->connection = NULL;
}

static struct connect_job *connect_job_new(const struct store_settings *settings) {
    struct connect_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->url = strdup(settings->url);
    job->account = strdup(settings->account);
    job->worker = strdup(settings->worker);
    if (!job->url || !job->account || !job->worker) {
        connect_job_drop(job);
        return NULL;
    }
    job->settings = *settings;
    job->settings.url = job->url;
    job->settings.account = job->account;
    job->settings.worker = job->worker;
    return job;
}

/* ---- connecting ---- */

/* Half a second to one, so that a fleet does not come all at once. */
static void store_retry_later(struct store *store) {
    uint32_t chance = 0;
    if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != sizeof chance)
        chance = UINT32_MAX / 2;
    uint64_t wait = RETRY_MIN_US + (uint64_t)chance * RETRY_MIN_US / UINT32_MAX;
    (void)sd_event_source_set_time(store->retry, now(store) + wait); /* fail only on a source of another kind */
    (void)sd_event_source_set_enabled(store->retry, SD_EVENT_ONESHOT);
}

static void store_begin(struct store *store) {
    struct connect_job *job = connect_job_new(store->settings);
    int r = job ? 0 : -ENOMEM;
    if (job) {
        const struct connector_work work = {.run = connect_job_run, .drop = connect_job_drop, .job = job};
        r = connector_begin(store->connector, &work);
        if (r < 0)
            connect_job_drop(job);
    }
    if (r < 0)
        store_retry_later(store);
}

/* Tells those who wait that their tasks are lost; what they submit now is told with the next turn. */
static void store_tell_lost(struct store *store) {
    struct task_list lost = store->lost;
    store->lost = (struct task_list){0};
    while (lost.first) {
        struct store_task *task = list_take(&lost);
        if (!*task->error)
            snprintf(task->error, sizeof task->error, "the connection to PostgreSQL was lost");
        task->done(task, STORE_LOST);
    }
}

static int store_on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static void store_on_connected(void *userdata, void *result) {
    struct store *store = userdata;
    struct connect_job *job = result;
    int r = -ENOTCONN;

    if (job->connection) {
        r = sd_event_add_io(store->event, &store->io, PQsocket(job->connection), EPOLLIN, store_on_io, store);
        if (r < 0)
            snprintf(job->cause, sizeof job->cause, "no connection to PostgreSQL: %s", strerror(-r));
    }
    if (r < 0) {
        store_retry_later(store);
        portal_store_down(store->portal, job->cause);
    } else {
        store->connection = job->connection;
        job->connection = NULL;
        store->broken = false;
        store->up_since = now(store);
        portal_connected(store->portal, "store");
        store_tell_lost(store); /* before: after it they would wait in vain for the next */
        portal_store_up(store->portal);
    }
    connect_job_drop(job);
}

static int store_on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    store_begin(userdata);
    return 0;
}

/* ---- losing the connection ---- */

/* Gives the connection up, soon: callers may be inside a call of the core, which must not be called back from there. */
static void store_break(struct store *store, const char *cause) {
    if (store->broken)
        return;
    store->broken = true;
    database_message(cause, store->cause, sizeof store->cause);
    (void)sd_event_source_set_enabled(store->deferred, SD_EVENT_ONESHOT);
}

static void store_break_with(struct store *store, const char *what) {
    char line[400];
    char cause[CAUSE_SIZE];
    database_message(PQerrorMessage(store->connection), line, sizeof line);
    snprintf(cause, sizeof cause, "lost the connection to PostgreSQL: %s", *line ? line : what);
    store_break(store, cause);
}

static void store_disconnect(struct store *store) {
    bool lived = now(store) - store->up_since >= LIVED_US;
    store->io = sd_event_source_disable_unref(store->io);
    PQclear(store->result);
    store->result = NULL;
    PQfinish(store->connection); /* does not block: libpq only tries to say good-bye on a nonblocking connection */
    store->connection = NULL;
    store->broken = false;
    list_move(&store->lost, &store->pending);
    (void)sd_event_source_set_enabled(store->patience, SD_EVENT_OFF);
    if (lived)
        store_begin(store);
    else
        store_retry_later(store);
    portal_store_down(store->portal, store->cause);
}

static int store_on_deferred(sd_event_source *source, void *userdata) {
    struct store *store = userdata;
    (void)source;
    if (store->broken)
        store_disconnect(store);
    store_tell_lost(store);
    return 0;
}

/* Told later that it is lost. */
static void store_lose(struct store *store, struct store_task *task, const char *error) {
    snprintf(task->error, sizeof task->error, "%s", error);
    list_append(&store->lost, task);
    (void)sd_event_source_set_enabled(store->deferred, SD_EVENT_ONESHOT);
}

/* ---- sending ---- */

static void store_watch(struct store *store, int unsent) {
    if (unsent < 0)
        store_break_with(store, "can't send");
    else
        (void)sd_event_source_set_io_events(store->io, unsent > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void store_set_patience(struct store *store, uint64_t since) {
    (void)sd_event_source_set_time(store->patience, since + store->settings->answer_seconds * UINT64_C(1000000));
    (void)sd_event_source_set_enabled(store->patience, SD_EVENT_ONESHOT);
}

static void store_send(struct store *store, struct store_task *task) {
    const struct statement *statement = statement_of(statement_number(task));

    snprintf(store->context.mark, sizeof store->context.mark, "%.100s/%016" PRIx64, store->settings->worker,
             store->context.batch++);
    parameters_reset(&store->parameters);
    statement->bind(&store->context, &store->parameters, task);
    if (store->parameters.failed) {
        store_break(store, "lost the connection to PostgreSQL: out of memory");
        store_lose(store, task, "out of memory");
        return;
    }
    if (!store->pending.first) {
        store->pending_since = now(store);
        store_set_patience(store, store->pending_since);
    }
    list_append(&store->pending, task);
    /* A statement sent by half can't be taken back, so whatever goes wrong ends the connection. */
    if (parameters_send(&store->parameters, store->connection, statement->name) < 0 ||
        !PQpipelineSync(store->connection)) {
        store_break_with(store, "can't send");
        return;
    }
    store_watch(store, PQflush(store->connection));
}

static void store_submit(void *self, struct store_task *task) {
    struct store *store = self;
    assert(task && task->done);
    task->database_now = 0;
    task->sqlstate[0] = task->error[0] = '\0';
    if (store->connection && !store->broken)
        store_send(store, task);
    else
        store_lose(store, task, "no connection to PostgreSQL");
}

/* ---- answers ---- */

/* Expired URLs are wiped a batch at a time, so that what waits behind a batch does not wait long. */
static void store_wipe_on(struct store *store) {
    if (store->wiping)
        return;
    store->wiping = true;
    store_submit(store, &store->wipe);
}

static void store_on_wiped(struct store_task *task, enum store_status status) {
    struct store *store = (struct store *)((char *)task - offsetof(struct store, wipe));
    (void)status; /* the next heartbeat tries again */
    store->wiping = false;
}

/* Ends the connection with the task's error for a cause: whoever is told STORE_LOST waits for the next
 * portal_store_up(), which has to come. */
static enum store_status store_lost(struct store *store, struct store_task *task) {
    char cause[CAUSE_SIZE];
    snprintf(cause, sizeof cause, "lost the connection to PostgreSQL: %s",
             *task->error ? task->error : "unexpected answer");
    store_break(store, cause);
    return STORE_LOST;
}

static enum store_status store_read(struct store *store, struct store_task *task, const PGresult *result) {
    const struct statement *statement = statement_of(statement_number(task));
    ExecStatusType expected = statement->columns > 0 ? PGRES_TUPLES_OK : PGRES_COMMAND_OK;

    if (PQresultStatus(result) == expected) {
        int r = PQnfields(result) != statement->columns ? -EPROTO : statement->read ? statement->read(task, result) : 0;
        if (r == 0)
            return STORE_DONE;
        snprintf(task->error, sizeof task->error, "%s", r == -ENOMEM ? "out of memory" : "unexpected answer");
        return store_lost(store, task);
    }
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    snprintf(task->sqlstate, sizeof task->sqlstate, "%s", sqlstate ? sqlstate : "");
    database_message(primary ? primary : PQresultErrorMessage(result), task->error, sizeof task->error);
    enum store_status status = statement_status(sqlstate);
    return status == STORE_LOST ? store_lost(store, task) : status;
}

/* The first pending task's sync has come: its transaction has ended. */
static void store_finish(struct store *store) {
    struct store_task *task = list_take(&store->pending);
    PGresult *result = store->result;
    store->result = NULL;
    store->pending_since = now(store);

    int number = statement_number(task);
    enum store_status status = store_read(store, task, result);
    bool more =
        status == STORE_DONE && (number == STORE_HEARTBEAT || number == STATEMENT_WIPE) && statement_wiped_full(result);
    PQclear(result);
    task->done(task, status);
    if (more)
        store_wipe_on(store);
}

/* No more answers come. Where it was the server that ended the connection, its error says why. */
static void store_break_off(struct store *store) {
    const char *primary = PQresultErrorField(store->result, PG_DIAG_MESSAGE_PRIMARY);
    char cause[CAUSE_SIZE];
    snprintf(cause, sizeof cause, "lost the connection to PostgreSQL: %s", primary ? primary : "answers out of step");
    store_break(store, cause);
}

/* Takes what has come. Between a result and its sync PQgetResult() returns NULL once; twice means that no
 * more come, or that libpq and we disagree on what was sent. */
static void store_process(struct store *store) {
    unsigned nothing = 0;
    while (!store->broken && store->pending.first && !PQisBusy(store->connection)) {
        PGresult *result = PQgetResult(store->connection);
        if (!result) {
            if (++nothing > 1)
                store_break_off(store);
            continue;
        }
        nothing = 0;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            store_finish(store);
            continue;
        }
        if (store->result && PQresultStatus(store->result) == PGRES_FATAL_ERROR) {
            PQclear(result); /* the first error is the cause of the others */
            continue;
        }
        PQclear(store->result); /* an error at the end of the transaction takes the place of what came before */
        store->result = result;
    }
}

static int store_on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    struct store *store = userdata;
    (void)source;
    (void)fd;
    (void)revents;
    if (store->broken)
        return 0;
    bool alive = PQconsumeInput(store->connection);
    store_process(store);
    if (!alive)
        store_break_with(store, "closed by the server");
    else if (!store->broken)
        store_watch(store, PQflush(store->connection));
    return 0;
}

/* Dispatched after the connection's own events, so that an answer that is there already counts, also where it was this
 * process that stood still. */
static int store_on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
    struct store *store = userdata;
    (void)source;
    (void)usec;
    if (store->broken || !store->pending.first)
        return 0;
    uint64_t limit = store->settings->answer_seconds * UINT64_C(1000000);
    if (now(store) - store->pending_since < limit) {
        store_set_patience(store, store->pending_since);
        return 0;
    }
    char cause[CAUSE_SIZE];
    snprintf(cause, sizeof cause, "PostgreSQL did not answer for %" PRIu32 " s", store->settings->answer_seconds);
    store_break(store, cause);
    return 0;
}

/* ---- life ---- */

static int store_add_sources(struct store *store) {
    int r = sd_event_add_defer(store->event, &store->deferred, store_on_deferred, store);
    if (r < 0)
        return r;
    (void)sd_event_source_set_enabled(store->deferred, SD_EVENT_OFF);
    r = sd_event_add_time(store->event, &store->retry, CLOCK_MONOTONIC, 0, 1000, store_on_retry, store);
    if (r < 0)
        return r;
    (void)sd_event_source_set_enabled(store->retry, SD_EVENT_OFF);
    r = sd_event_add_time(store->event, &store->patience, CLOCK_MONOTONIC, 0, 10000, store_on_patience, store);
    if (r < 0)
        return r;
    (void)sd_event_source_set_enabled(store->patience, SD_EVENT_OFF);
    return sd_event_source_set_priority(store->patience, SD_EVENT_PRIORITY_NORMAL + 1);
}

int store_new(const struct store_settings *settings, sd_event *event, struct store **ret) {
    assert(settings && settings->answer_seconds > 0 && event && ret);
    struct store *store = calloc(1, sizeof *store);
    if (!store)
        return -ENOMEM;
    store->settings = settings;
    store->event = sd_event_ref(event);
    store->context.settings = settings;
    store->wipe = (struct store_task){.kind = (enum store_kind)STATEMENT_WIPE, .done = store_on_wiped};
    int r = 0;
    if (getrandom(&store->context.batch, sizeof store->context.batch, 0) != sizeof store->context.batch)
        r = -EIO;
    r = r < 0 ? r : connector_new(event, store_on_connected, store, &store->connector);
    r = r < 0 ? r : store_add_sources(store);
    if (r < 0) {
        store_free(store);
        return r;
    }
    *ret = store;
    return 0;
}

int store_start(struct store *store, struct portal *portal) {
    assert(store && portal && !store->portal);
    store->portal = portal;
    store_begin(store);
    return 0;
}

struct store_link store_link(struct store *store) {
    return (struct store_link){.self = store, .submit = store_submit};
}

void store_free(struct store *store) {
    if (!store)
        return;
    connector_free(store->connector);
    sd_event_source_disable_unref(store->io);
    sd_event_source_disable_unref(store->patience);
    sd_event_source_disable_unref(store->deferred);
    sd_event_source_disable_unref(store->retry);
    PQclear(store->result);
    PQfinish(store->connection);
    parameters_free(&store->parameters);
    sd_event_unref(store->event);
    free(store);
}
