/* stripe-curl.c — libcurl's multi interface on sd-event: all its sockets as one I/O source, its one timer as a time
 * source.
 *
 * libcurl's sockets are in an epoll of their own, which the loop watches: sd-event asks epoll anew for each source it
 * dispatches, so that 200 sockets ready at once would cost 200 looks at 200 sockets (seen: half of all CPU).
 *
 * libcurl calls socket_changed() and timer_changed() from inside itself, where none of its functions may be called and
 * so nobody else may be told anything; they only arrange for the loop to come back. */
#include "stripe-private.h"

#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
    TIMER_ACCURACY_US = 1000,
    SOCKETS_A_TURN = 64, /* then the rest of the loop has its turn */
};

static int on_sockets(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
    (void)source;
    (void)revents;
    struct stripe_curl *curl = userdata;
    struct epoll_event ready[SOCKETS_A_TURN];
    int count = epoll_wait(fd, ready, SOCKETS_A_TURN, 0);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;

    for (int i = 0; i < count; i++) {
        int mask = 0;
        if (ready[i].events & EPOLLIN)
            mask |= CURL_CSELECT_IN;
        if (ready[i].events & EPOLLOUT)
            mask |= CURL_CSELECT_OUT;
        if (ready[i].events & (EPOLLERR | EPOLLHUP))
            mask |= CURL_CSELECT_ERR;
        int running = 0;
        /* A socket that was closed a moment ago is unknown to it and ignored; it fails only for what a transfer
         * reports as well. */
        (void)curl_multi_socket_action(curl->multi, ready[i].data.fd, mask, &running);
    }
    curl->turned(curl->userdata);
    return 0;
}

static int timeout(struct stripe_curl *curl) {
    int running = 0;
    (void)curl_multi_socket_action(curl->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    curl->turned(curl->userdata);
    return 0;
}

static int on_timer(sd_event_source *source, uint64_t time, void *userdata) {
    (void)source;
    (void)time;
    return timeout(userdata);
}

static int on_now(sd_event_source *source, void *userdata) {
    (void)source;
    return timeout(userdata);
}

/* CURLMOPT_SOCKETFUNCTION; 0 or -1. `known` is set once the socket is in the epoll. */
static int socket_changed(CURL *easy, curl_socket_t fd, int what, void *userdata, void *known) {
    (void)easy;
    struct stripe_curl *curl = userdata;

    struct epoll_event event = {.data.fd = fd};
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl(curl->sockets, EPOLL_CTL_DEL, fd, &event); /* gone already if it was closed */
        return 0;
    }
    if (epoll_ctl(curl->sockets, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
        return -1;
    if (!known && curl_multi_assign(curl->multi, fd, curl) != CURLM_OK)
        return -1;
    return 0;
}

static uint64_t monotonic_us(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* CURLMOPT_TIMERFUNCTION; 0 or -1. */
static int timer_changed(CURLM *multi, long timeout_ms, void *userdata) {
    (void)multi;
    struct stripe_curl *curl = userdata;

    if (sd_event_source_set_enabled(curl->now, timeout_ms == 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF) < 0)
        return -1;
    if (timeout_ms <= 0)
        return sd_event_source_set_enabled(curl->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
    /* Never early: libcurl takes a timer that comes before its time for another's and may not ask again. */
    uint64_t when = monotonic_us() + (uint64_t)timeout_ms * 1000 + 999;
    if (sd_event_source_set_time(curl->timer, when) < 0 ||
        sd_event_source_set_enabled(curl->timer, SD_EVENT_ONESHOT) < 0)
        return -1;
    return 0;
}

static int add_sources(struct stripe_curl *curl, sd_event *event) {
    int r = sd_event_add_io(event, &curl->io, curl->sockets, EPOLLIN, on_sockets, curl);
    if (r < 0)
        return r;
    r = sd_event_add_time(event, &curl->timer, CLOCK_MONOTONIC, UINT64_MAX, TIMER_ACCURACY_US, on_timer, curl);
    if (r < 0)
        return r;
    r = sd_event_source_set_enabled(curl->timer, SD_EVENT_OFF);
    if (r < 0)
        return r;
    r = sd_event_add_defer(event, &curl->now, on_now, curl);
    if (r < 0)
        return r;
    return sd_event_source_set_enabled(curl->now, SD_EVENT_OFF);
}

int stripe_curl_init(struct stripe_curl *curl, sd_event *event, void (*turned)(void *userdata), void *userdata) {
    assert(curl);
    assert(event);
    assert(turned);

    *curl = (struct stripe_curl){.turned = turned, .userdata = userdata, .sockets = epoll_create1(EPOLL_CLOEXEC)};
    if (curl->sockets < 0)
        return -errno;
    int r = add_sources(curl, event);
    if (r < 0)
        return r;
    curl->multi = curl_multi_init();
    if (!curl->multi)
        return -ENOMEM;
    if (curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, socket_changed) != CURLM_OK ||
        curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl) != CURLM_OK ||
        curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, timer_changed) != CURLM_OK ||
        curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl) != CURLM_OK)
        return -EIO;
    return 0;
}

void stripe_curl_clear(struct stripe_curl *curl) {
    assert(curl);

    if (curl->multi)
        (void)curl_multi_cleanup(curl->multi);
    curl->multi = NULL;
    curl->io = sd_event_source_disable_unref(curl->io);
    curl->timer = sd_event_source_disable_unref(curl->timer);
    curl->now = sd_event_source_disable_unref(curl->now);
    if (curl->sockets >= 0)
        close(curl->sockets);
    curl->sockets = -1;
}
