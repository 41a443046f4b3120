// Fact: sample_stack_user must be a multiple of 8 below 65535: 65528 is the most that can be asked for; more, or another step, is
// EINVAL. A record's size is 16 bits, so beside other fields less of it is copied.
// Source: kernel/events/core.c, perf_copy_attr ("sample_stack_user >= USHRT_MAX", "IS_ALIGNED") and perf_sample_ustack_size.
#include "check.h"

#define FACT "STACK_USER: 65528 is the most, in steps of 8"

static int errno_of(uint32_t size) {
    struct perf_event_attr attr = cpu_clock(100, PERF_SAMPLE_STACK_USER | PERF_SAMPLE_REGS_USER);
    attr.sample_regs_user = 1;
    attr.sample_stack_user = size;
    int fd = perf_open(&attr, 0, -1, -1, 0);
    if (fd < 0) return errno;
    close(fd);
    return 0;
}

int main(void) {
    int most = errno_of(65528), more = errno_of(65536), odd = errno_of(65524);
    verdict(most == 0 && more == EINVAL && odd == EINVAL, FACT, "65528: %s, 65536: %s, 65524: %s", strerror(most), strerror(more),
            strerror(odd));
}
