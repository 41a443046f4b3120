// Memory that grows at two places, one three times as much as the other, and a rest.
//
// grow PAGES MILLISECONDS: touches so many pages once at the one place, and three times as many at the other.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static __attribute__((noinline)) void touch(long pages)
{
    long page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(0, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    madvise(memory, pages * page, MADV_NOHUGEPAGE);
    for (long at = 0; at < pages; at++) memory[at * page] = 1;
    munmap(memory, pages * page);
}

static __attribute__((noinline)) void grow_little(long pages)
{
    touch(pages);
    __asm__ volatile("");
}

static __attribute__((noinline)) void grow_much(long pages)
{
    touch(3 * pages);
    __asm__ volatile("");
}

int main(int count, char **arguments)
{
    if (count < 3) return 1;
    grow_little(atol(arguments[1]));
    grow_much(atol(arguments[1]));
    usleep(atol(arguments[2]) * 1000);
    return 0;
}
