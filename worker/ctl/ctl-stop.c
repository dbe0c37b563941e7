/* ctl-stop.c — Ctrl-C and SIGTERM as a descriptor, for commands that have something to say or to put back first. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>

#include "portalctl.h"

int ctl_stop_open(void) {
    sigset_t signals;
    if (sigemptyset(&signals) < 0 || sigaddset(&signals, SIGINT) < 0 || sigaddset(&signals, SIGTERM) < 0 ||
        sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
        return -errno;
    int stop = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    return stop < 0 ? -errno : stop;
}

bool ctl_stop_wanted(int stop) {
    return !ctl_stop_sleep(stop, 0);
}

bool ctl_stop_sleep(int stop, unsigned milliseconds) {
    struct pollfd poller = {.fd = stop, .events = POLLIN};
    return poll(&poller, 1, (int)milliseconds) <= 0;
}
