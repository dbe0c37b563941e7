/* ctl-stop.c — Ctrl-C and SIGTERM as a descriptor, for commands that have something to say or to put back first. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>

#include "portalctl.h"

static sigset_t stopping(void) {
    sigset_t signals;
    (void)sigemptyset(&signals); /* these can't fail with signals that there are */
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    return signals;
}

int ctl_stop_open(void) {
    const sigset_t signals = stopping();
    if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
        return -errno;
    int stop = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    return stop < 0 ? -errno : stop;
}

void ctl_stop_ends(bool ends) {
    const sigset_t signals = stopping();
    (void)sigprocmask(ends ? SIG_UNBLOCK : SIG_BLOCK, &signals, NULL);
}

bool ctl_stop_wanted(int stop) {
    return !ctl_stop_sleep(stop, 0);
}

bool ctl_stop_sleep(int stop, unsigned milliseconds) {
    struct pollfd poller = {.fd = stop, .events = POLLIN};
    return poll(&poller, 1, (int)milliseconds) <= 0;
}
