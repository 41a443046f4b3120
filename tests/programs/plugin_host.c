// Truth: main > host > plugin_work > plugin_leaf, the latter two in the shared object named by the second argument, which is
// loaded by dlopen only after "ready" and, with a third argument, unloaded and loaded anew at each turn.
#include "burn.h"
#include <dlfcn.h>

typedef uint64_t (*work_t)(uint64_t);

FRAME uint64_t host(work_t work, uint64_t rounds) {
    uint64_t x = work(rounds);
    NO_TAIL_CALL();
    return x + 1;
}

static void *load(const char *path, work_t *work) {
    void *plugin = dlopen(path, RTLD_NOW);
    if (!plugin) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    *work = (work_t)dlsym(plugin, "plugin_work");
    return plugin;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    deadline_t end = deadline_in(seconds_of(argc, argv));
    uint64_t sum = 0;
    work_t work;
    ready();
    void *plugin = load(argv[2], &work);
    while (!passed(end)) {
        sum += host(work, 100 * TURN);
        if (argc > 3) {
            dlclose(plugin);
            plugin = load(argv[2], &work);
        }
    }
    return sum == 42;
}
