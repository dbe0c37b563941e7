/* streams.h — standard input, output and error, as whoever started the program has left them. */
#pragma once

#include <stdbool.h>

/* Makes each that is closed one that can't be used: else the next socket or file to be opened would get its number, and
 * with it what is logged or printed. Called first of all. Result: whether none is closed any more. */
bool streams_keep(void);
