// Truth: main > host > plugin_work > plugin_leaf, the latter two in a copy of the shared object named by the second argument that
// exists in no folder: it was written into a memfd and loaded from there ("/memfd:code (deleted)" in /proc/PID/maps).
#include "burn.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

typedef uint64_t (*work_t)(uint64_t);

FRAME uint64_t host(work_t work, uint64_t rounds) {
    uint64_t x = work(rounds);
    NO_TAIL_CALL();
    return x + 1;
}

static work_t load_from_memory(const char *path) {
    char name[64];
    int from = open(path, O_RDONLY), to = memfd_create("code", 0);
    while (sendfile(to, from, NULL, 1 << 20) > 0) {}
    snprintf(name, sizeof name, "/proc/self/fd/%d", to);
    void *plugin = dlopen(name, RTLD_NOW);
    if (!plugin) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    close(from);
    close(to);
    return (work_t)dlsym(plugin, "plugin_work");
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    work_t work = load_from_memory(argv[2]);
    ready();
    while (!passed(end)) sum += host(work, TURN);
    return sum == 42;
}
