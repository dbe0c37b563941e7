/* streams.c — standard input, output and error. */
#include "daemon/streams.h"

#include <fcntl.h>
#include <unistd.h>

bool streams_keep(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            return false;
    return true;
}
