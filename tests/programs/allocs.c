// Allocates by every function of the allocator, and keeps some of it: which bytes each function asked for and keeps, it prints at the
// end, `function bytes kept`.
#define _GNU_SOURCE
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile uint64_t sink;
static uint64_t asked, kept;

static void keep(void *memory) { sink += (uintptr_t)memory; }

#define SITE(name) __attribute__((noinline)) static void name(long rounds)

SITE(leaks)
{
    for (long i = 0; i < rounds; i++) {
        keep(malloc(100));
        asked += 100, kept += 100;
    }
}

SITE(frees)
{
    for (long i = 0; i < rounds; i++) {
        void *memory = malloc(1000);
        keep(memory);
        free(memory);
        asked += 1000;
    }
}

SITE(mixes)
{
    for (long i = 0; i < rounds; i++) {
        size_t size = 16 + i % 64 * 64;
        void *memory = calloc(size / 16, 16);
        keep(memory);
        asked += size;
        if (i % 2)
            kept += size;
        else
            free(memory);
    }
}

SITE(grows)
{
    for (long i = 0; i < rounds; i++) {
        char *memory = NULL;
        for (size_t size = 64; size <= 4096; size *= 2) {
            memory = realloc(memory, size);
            keep(memory);
            asked += size;
        }
        kept += 4096;
    }
}

SITE(aligns)
{
    for (long i = 0; i < rounds; i++) {
        void *memory = NULL;
        if (posix_memalign(&memory, 64, 500))
            abort();
        keep(memory);
        keep(aligned_alloc(256, 512));
        free(memory);
        asked += 1012, kept += 512;
    }
}

SITE(large)
{
    for (long i = 0; i < rounds / 1000; i++) {
        void *memory = malloc(3 << 20);
        keep(memory);
        asked += 3 << 20;
        if (i % 4)
            free(memory);
        else
            kept += 3 << 20;
    }
}

static void site(const char *name, void (*run)(long), long rounds)
{
    asked = kept = 0;
    run(rounds);
    printf("%s %lu\n%s_kept %lu\n", name, asked, name, kept);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 20000;
    site("leaks", leaks, rounds * 10);
    site("frees", frees, rounds * 4);
    site("mixes", mixes, rounds * 2);
    site("grows", grows, rounds);
    site("aligns", aligns, rounds * 4);
    site("large", large, rounds);
    return 0;
}
