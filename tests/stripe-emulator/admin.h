/* The emulator's own API, under /_emulator/, for tests to arrange and to look. README.md describes it. */
#pragma once

struct emulator;
struct request;

/* Answers a request whose path begins with /_emulator/. */
void admin_answer(struct emulator *emulator, struct request *request);
