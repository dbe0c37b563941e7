/* The pages that a browser sees behind the URLs that the emulator hands out. */
#pragma once

struct emulator;
struct request;

/* Answers a request whose path begins with /p/. */
void pages_answer(struct emulator *emulator, struct request *request);
