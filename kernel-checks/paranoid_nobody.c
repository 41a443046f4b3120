// Fact: at kernel.perf_event_paranoid = 2, the default, a user without capabilities may profile the own tasks in user space
// (exclude_kernel); with the kernel, or on a CPU (pid -1), or another user's task, it is EACCES (EPERM for a task, some kernels).
// Source: Documentation/admin-guide/sysctl/kernel.rst; kernel/events/core.c, perf_allow_kernel and perf_allow_cpu.
#include "check.h"

#define FACT "paranoid 2: a user may sample own tasks in user space and nothing else"

static int errno_of(pid_t pid, int cpu, int exclude_kernel) {
    struct perf_event_attr attr = cpu_clock(100, PERF_SAMPLE_IP);
    attr.exclude_kernel = (unsigned)exclude_kernel;
    int fd = perf_open_exactly(&attr, pid, cpu, -1, 0), error = fd < 0 ? errno : 0;
    if (fd >= 0) close(fd);
    return error;
}

int main(void) {
    int level = -2;
    FILE *file = fopen("/proc/sys/kernel/perf_event_paranoid", "r");
    if (!file || fscanf(file, "%d", &level) != 1) verdict(0, FACT, "no perf_event_paranoid: a kernel without perf events");
    if (geteuid() == 0 && (setgid(65534) || setuid(65534))) verdict(0, FACT, "cannot become nobody: %s", strerror(errno));
    if (level != 2) cannot(FACT, "kernel.perf_event_paranoid is not 2", "each refusal is met when it comes");
    int own = errno_of(0, -1, 1), kernel = errno_of(0, -1, 0), cpu = errno_of(-1, 0, 1), other = errno_of(1, -1, 1);
    verdict(!own && kernel == EACCES && cpu == EACCES && (other == EACCES || other == EPERM), FACT,
            "own: %s; own with kernel: %s; a CPU: %s; PID 1: %s", strerror(own), strerror(kernel), strerror(cpu), strerror(other));
}
