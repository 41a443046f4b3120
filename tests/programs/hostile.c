// Truth: main > burn > burn_leaf, in a process that lies about its code. Second argument "map": the files named by the further ones,
// which may hold anything, are mapped as code that is never run. "truncate": main > host > plugin_work > plugin_leaf for half the
// time, in the shared object named by the third argument (linked with -Bsymbolic), of which then nothing but its first two pages is
// left in the file; and again for the other half.
#include "burn.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef uint64_t (*work_t)(uint64_t);

FRAME uint64_t burn_leaf(uint64_t rounds) { return spin(rounds); }

FRAME uint64_t burn(uint64_t rounds) {
    uint64_t x = burn_leaf(rounds);
    NO_TAIL_CALL();
    return x + 1;
}

FRAME uint64_t host(work_t work, uint64_t rounds) {
    uint64_t x = work(rounds);
    NO_TAIL_CALL();
    return x + 1;
}

static void map_as_code(const char *path) {
    struct stat stat;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &stat)) exit(2);
    if (mmap(NULL, (size_t)stat.st_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED) exit(3);
    close(file);
}

static void work_for(work_t work, double seconds) {
    deadline_t end = deadline_in(seconds);
    while (!passed(end)) host(work, TURN);
}

int main(int argc, char **argv) {
    double seconds = seconds_of(argc, argv);
    if (argc > 3 && !strcmp(argv[2], "truncate")) {
        void *plugin = dlopen(argv[3], RTLD_NOW);
        if (!plugin) return 2;
        work_t work = (work_t)dlsym(plugin, "plugin_work");
        ready();
        work_for(work, seconds / 2);
        if (truncate(argv[3], 0x2000)) return 3;
        work_for(work, seconds / 2);
        _exit(0);
    }
    for (int i = 3; i < argc; i++) map_as_code(argv[i]);
    deadline_t end = deadline_in(seconds);
    uint64_t sum = 0;
    ready();
    while (!passed(end)) sum += burn(TURN);
    return sum == 42;
}
