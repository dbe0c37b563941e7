/* regress.c — runs a fuzz target over files, without a fuzzer: what once crashed it, and its corpus, in every `make
 * test`. regress FILE… */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    static uint8_t data[1 << 20];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "re");
        if (!file) {
            perror(argv[i]);
            return 1;
        }
        size_t size = fread(data, 1, sizeof data, file);
        (void)fclose(file);
        uint8_t *copy = malloc(size + 1);
        if (!copy)
            return 1;
        for (size_t k = 0; k < size; k++)
            copy[k] = data[k];
        copy[size] = '\0'; /* with strict_string_checks even strndup() may not run into what is beyond */
        (void)LLVMFuzzerTestOneInput(copy, size);
        free(copy);
    }
    printf("ok %d files\n", argc - 1);
    return 0;
}
