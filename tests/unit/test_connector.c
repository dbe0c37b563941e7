/* test_connector.c — the helper thread: reports on the loop, one work at a time, and survives its owner. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "links/connector.h"

struct job {
    sem_t go;      /* run() waits for it */
    sem_t dropped; /* drop() posts it */
    pthread_t thread;
    bool signals_blocked;
};

struct bed {
    sd_event *event;
    struct connector *connector;
    struct job *taken; /* what done() was called with */
    struct job *next;  /* what done() begins */
    bool free_inside;  /* done() frees the connector */
};

static struct job *job_new(unsigned go) {
    struct job *job = calloc(1, sizeof *job);
    assert_non_null(job);
    assert_int_equal(sem_init(&job->go, 0, go), 0);
    assert_int_equal(sem_init(&job->dropped, 0, 0), 0);
    return job;
}

static void job_run(void *argument) {
    struct job *job = argument;
    sigset_t mask;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    job->signals_blocked = sigismember(&mask, SIGTERM) == 1;
    job->thread = pthread_self();
    while (sem_wait(&job->go) < 0)
        ;
}

static void job_drop(void *argument) {
    struct job *job = argument;
    (void)sem_post(&job->dropped);
}

static struct connector_work job_work(struct job *job) {
    return (struct connector_work){.run = job_run, .drop = job_drop, .job = job};
}

static void bed_done(void *userdata, void *job) {
    struct bed *bed = userdata;
    bed->taken = job;
    if (bed->next) {
        struct connector_work work = job_work(bed->next);
        bed->next = NULL;
        assert_int_equal(connector_begin(bed->connector, &work), 0);
    }
    if (bed->free_inside) {
        connector_free(bed->connector);
        bed->connector = NULL;
    }
}

static int bed_setup(void **state) {
    struct bed *bed = calloc(1, sizeof *bed);
    assert_non_null(bed);
    assert_true(sd_event_new(&bed->event) >= 0);
    assert_int_equal(connector_new(bed->event, bed_done, bed, &bed->connector), 0);
    *state = bed;
    return 0;
}

static int bed_teardown(void **state) {
    struct bed *bed = *state;
    connector_free(bed->connector);
    sd_event_unref(bed->event);
    free(bed);
    return 0;
}

static void bed_wait(struct bed *bed) {
    bed->taken = NULL;
    while (!bed->taken)
        assert_true(sd_event_run(bed->event, UINT64_MAX) >= 0);
}

static void runs_on_a_thread_without_signals_and_reports_on_the_loop(void **state) {
    struct bed *bed = *state;
    struct job *job = job_new(1);
    struct connector_work work = job_work(job);
    assert_int_equal(connector_begin(bed->connector, &work), 0);
    bed_wait(bed);
    assert_ptr_equal(bed->taken, job);
    assert_false(pthread_equal(job->thread, pthread_self()));
    assert_true(job->signals_blocked);
    assert_false(connector_busy(bed->connector));
    free(job);
}

static void runs_one_at_a_time_and_leaves_the_refused_job_alone(void **state) {
    struct bed *bed = *state;
    struct job *first = job_new(0);
    struct job *second = job_new(1);
    struct connector_work work = job_work(first);
    assert_int_equal(connector_begin(bed->connector, &work), 0);
    assert_true(connector_busy(bed->connector));
    work.job = second;
    assert_int_equal(connector_begin(bed->connector, &work), -EBUSY);
    (void)sem_post(&first->go);
    bed_wait(bed);
    assert_ptr_equal(bed->taken, first);
    assert_int_equal(sem_trywait(&second->dropped), -1);
    free(first);
    free(second);
}

static void done_may_begin_the_next(void **state) {
    struct bed *bed = *state;
    struct job *first = job_new(1);
    struct job *second = job_new(1);
    struct connector_work work = job_work(first);
    bed->next = second;
    assert_int_equal(connector_begin(bed->connector, &work), 0);
    bed_wait(bed);
    assert_ptr_equal(bed->taken, first);
    bed_wait(bed);
    assert_ptr_equal(bed->taken, second);
    free(first);
    free(second);
}

static void done_may_free_the_connector(void **state) {
    struct bed *bed = *state;
    struct job *job = job_new(1);
    struct connector_work work = job_work(job);
    bed->free_inside = true;
    assert_int_equal(connector_begin(bed->connector, &work), 0);
    bed_wait(bed);
    assert_null(bed->connector);
    free(job);
}

static void freeing_does_not_wait_and_the_thread_drops_the_job(void **state) {
    struct bed *bed = *state;
    struct job *job = job_new(0);
    struct connector_work work = job_work(job);
    assert_int_equal(connector_begin(bed->connector, &work), 0);
    connector_free(bed->connector);
    bed->connector = NULL;
    (void)sem_post(&job->go);
    while (sem_wait(&job->dropped) < 0)
        ;
    assert_null(bed->taken);
    free(job);
}

static void a_cancelled_work_is_dropped_and_another_can_begin(void **state) {
    struct bed *bed = *state;
    struct job *hung = job_new(0);
    struct job *next = job_new(1);
    struct connector_work work = job_work(hung);
    assert_int_equal(connector_begin(bed->connector, &work), 0);
    connector_cancel(bed->connector);
    work.job = next;
    assert_int_equal(connector_begin(bed->connector, &work), 0);
    bed_wait(bed);
    assert_ptr_equal(bed->taken, next);
    (void)sem_post(&hung->go);
    while (sem_wait(&hung->dropped) < 0)
        ;
    free(hung);
    free(next);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(runs_on_a_thread_without_signals_and_reports_on_the_loop, bed_setup,
                                        bed_teardown),
        cmocka_unit_test_setup_teardown(runs_one_at_a_time_and_leaves_the_refused_job_alone, bed_setup, bed_teardown),
        cmocka_unit_test_setup_teardown(done_may_begin_the_next, bed_setup, bed_teardown),
        cmocka_unit_test_setup_teardown(done_may_free_the_connector, bed_setup, bed_teardown),
        cmocka_unit_test_setup_teardown(freeing_does_not_wait_and_the_thread_drops_the_job, bed_setup, bed_teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_work_is_dropped_and_another_can_begin, bed_setup, bed_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
