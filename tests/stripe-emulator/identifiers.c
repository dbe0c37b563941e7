/* Identifiers that look like Stripe's. */
#include "identifiers.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void identifier_random(void *bytes, size_t size) {
    /* Up to 256 bytes come whole or not at all (getrandom(2)); only a signal before the pool is ready interrupts. */
    assert(size <= 256);
    ssize_t got;

    do {
        got = getrandom(bytes, size, 0);
    } while (got < 0 && errno == EINTR);
    if (got != (ssize_t)size) {
        perror("stripe-emulator: getrandom");
        abort();
    }
}

uint64_t identifier_bits(void) {
    uint64_t bits;

    identifier_random(&bits, sizeof bits);
    return bits;
}

double identifier_uniform(void) {
    return (double)(identifier_bits() >> 11) * 0x1p-53;
}

void identifier_make(char *text, size_t size, const char *prefix, size_t count) {
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    unsigned char bytes[64];
    size_t length = strlen(prefix);

    assert(count <= sizeof bytes && length + count < size);
    identifier_random(bytes, count);
    memcpy(text, prefix, length);
    for (size_t i = 0; i < count; i++) {
        text[length + i] = alphabet[bytes[i] % (sizeof alphabet - 1)];
    }
    text[length + count] = '\0';
}
