/* connector.c — runs one blocking function at a time on a thread and reports on the loop through an eventfd.
 *
 * A thread that hangs in connect() or in a name look-up can't be stopped, only forgotten. So what the two sides share
 * is a run of its own, with a reference each; the last one frees it, and the thread never touches the connector. */
#include "links/connector.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct run {
    struct connector_work work;
    pthread_mutex_t lock;
    bool returned; /* guarded by the lock, as the next */
    bool orphaned;
    int eventfd;
    atomic_uint references;
};

struct connector {
    sd_event *event;
    connector_done done;
    void *userdata;
    struct run *run; /* NULL: nothing under way */
    sd_event_source *source;
};

static void run_free(struct run *run) {
    (void)pthread_mutex_destroy(&run->lock);
    close(run->eventfd);
    free(run);
}

static void run_unref(struct run *run) {
    if (atomic_fetch_sub(&run->references, 1) == 1)
        run_free(run);
}

static struct run *run_new(const struct connector_work *work) {
    struct run *run = calloc(1, sizeof *run);
    if (!run)
        return NULL;
    run->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (run->eventfd < 0) {
        free(run);
        return NULL;
    }
    run->work = *work;
    atomic_init(&run->references, 2);
    (void)pthread_mutex_init(&run->lock, NULL); /* never fails with default attributes on Linux */
    return run;
}

static void *run_thread(void *argument) {
    struct run *run = argument;
    run->work.run(run->work.job);

    (void)pthread_mutex_lock(&run->lock);
    run->returned = true;
    bool orphaned = run->orphaned;
    if (!orphaned)
        (void)eventfd_write(run->eventfd, 1); /* an eventfd that counts 0 always takes 1 */
    (void)pthread_mutex_unlock(&run->lock);

    if (orphaned)
        run->work.drop(run->work.job);
    run_unref(run);
    return NULL;
}

/* Starts the thread detached and with every signal blocked: they are the loop's. */
static int run_start(struct run *run) {
    sigset_t all;
    sigset_t before;
    pthread_attr_t attributes;
    pthread_t thread;
    int r = pthread_attr_init(&attributes);
    if (r != 0)
        return -r;
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&thread, &attributes, run_thread, run);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return -r;
}

static int connector_on_returned(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    struct connector *connector = userdata;
    struct run *run = connector->run;
    (void)source;
    (void)fd;
    (void)revents;

    connector->run = NULL;
    connector->source = sd_event_source_disable_unref(connector->source);
    void *job = run->work.job;
    /* The thread may still be between its write and its unlock; the lock orders what it wrote before what is read now.
     */
    (void)pthread_mutex_lock(&run->lock);
    assert(run->returned);
    (void)pthread_mutex_unlock(&run->lock);
    run_unref(run);
    connector->done(connector->userdata, job);
    return 0;
}

int connector_new(sd_event *event, connector_done done, void *userdata, struct connector **ret) {
    assert(event && done && ret);
    struct connector *connector = calloc(1, sizeof *connector);
    if (!connector)
        return -ENOMEM;
    connector->event = sd_event_ref(event);
    connector->done = done;
    connector->userdata = userdata;
    *ret = connector;
    return 0;
}

int connector_begin(struct connector *connector, const struct connector_work *work) {
    assert(connector && work && work->run && work->drop);
    if (connector->run)
        return -EBUSY;
    struct run *run = run_new(work);
    if (!run)
        return -ENOMEM;
    int r =
        sd_event_add_io(connector->event, &connector->source, run->eventfd, EPOLLIN, connector_on_returned, connector);
    if (r >= 0)
        r = run_start(run);
    if (r < 0) {
        connector->source = sd_event_source_disable_unref(connector->source);
        run_free(run); /* no thread was started */
        return r;
    }
    connector->run = run;
    return 0;
}

bool connector_busy(const struct connector *connector) {
    return connector->run;
}

void connector_cancel(struct connector *connector) {
    struct run *run = connector->run;
    if (!run)
        return;
    connector->run = NULL;
    connector->source = sd_event_source_disable_unref(connector->source);

    (void)pthread_mutex_lock(&run->lock);
    run->orphaned = true;
    bool returned = run->returned;
    (void)pthread_mutex_unlock(&run->lock);
    if (returned)
        run->work.drop(run->work.job);
    run_unref(run);
}

void connector_free(struct connector *connector) {
    if (!connector)
        return;
    connector_cancel(connector);
    sd_event_unref(connector->event);
    free(connector);
}
