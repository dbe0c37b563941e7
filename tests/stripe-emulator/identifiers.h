/* Identifiers that look like Stripe's. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Writes `prefix` and `count` random characters of [0-9A-Za-z] into `text` of `size` bytes, which must have room. */
void identifier_make(char *text, size_t size, const char *prefix, size_t count);

/* A number from 0 up to and without 1, and 64 random bits. */
double identifier_uniform(void);
uint64_t identifier_bits(void);
