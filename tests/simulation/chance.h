/* chance.h — all that is random in a simulated world, from its seed: splitmix64 (Steele, Lea, Flood 2014). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chance {
    uint64_t state;
};

static inline uint64_t chance_next(struct chance *chance) {
    uint64_t z = (chance->state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* A stream of its own for each subsystem, so that one that draws more does not change the others. */
static inline struct chance chance_fork(uint64_t seed, uint64_t stream) {
    struct chance chance = {seed * 0xd1342543de82ef95 + stream};
    return (struct chance){chance_next(&chance)};
}

/* 0 … n - 1 */
static inline uint64_t chance_below(struct chance *chance, uint64_t n) {
    return n > 0 ? chance_next(chance) % n : 0;
}

static inline uint64_t chance_between(struct chance *chance, uint64_t least, uint64_t most) {
    return least + chance_below(chance, most - least + 1);
}

static inline bool chance_in(struct chance *chance, unsigned hits, unsigned of) {
    return chance_below(chance, of) < hits;
}

/* Mostly short, now and then long: what networks do. Microseconds. */
static inline uint64_t chance_latency(struct chance *chance, uint64_t usual) {
    uint64_t roll = chance_below(chance, 100);
    if (roll < 90)
        return chance_between(chance, usual / 2, usual);
    return chance_between(chance, usual, roll < 99 ? 4 * usual : 20 * usual);
}
