// Fact: with attr.context_switch on a CPU every switch gives two PERF_RECORD_SWITCH_CPU_WIDE: first "out" (misc 0x2000) of the task
// that leaves, then "in" of the task that comes; 0x4000 beside it says that it left against its will (preempted, still runnable).
// Each names the other task too. On some machines a whole visit of a task (its "in" and its "out") is missing now and then, with no
// LOST record; what follows then still names the missing task. So a task's times hang on its own records alone, never on pairs.
// Source: perf_event_open(2), PERF_RECORD_SWITCH_CPU_WIDE; kernel/events/core.c, perf_event_switch; preempt bit since Linux 4.17.
#include "check.h"

#define FACT "SWITCH: out of the one, then in of the next; preempted ones are marked"

int main(void) {
    struct perf_event_attr attr = sideband();
    attr.context_switch = 1;
    int cpu = sched_getcpu();
    bind_to(cpu);
    int fd = perf_open(&attr, -1, cpu, -1, 0);
    if (fd < 0) cannot(FACT, "events on CPUs are not allowed", "each task's own SWITCH records are used");
    ring_t *ring = ring_map(fd, 256);
    pid_t rival = fork_child(); // competes for the CPU, so that one of the two is preempted
    if (rival == 0) {
        burn_ms(60);
        _exit(0);
    }
    burn_ms(60);
    for (int i = 0; i < 20; i++) usleep(500); // leaves of its own will
    waitpid(rival, NULL, 0);
    disable(fd);
    int outs = 0, ins = 0, preempted = 0, disorder = 0, missing = 0, slept_preempted = 0, last_out = -1;
    uint64_t expected = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        if (record->type != PERF_RECORD_SWITCH_CPU_WIDE) continue;
        int out = (record->misc & PERF_RECORD_MISC_SWITCH_OUT) != 0;
        uint32_t other = (uint32_t)(body(record)[0] >> 32), self = (uint32_t)(trailer(record, 2)[0] >> 32);
        // "out" names the next task, and the "in" behind it is of that task, or of one that says it came after that task.
        if (!out && last_out == 1 && self != expected && other == expected) missing++;
        else if (last_out >= 0) disorder += out == last_out || (!out && self != expected);
        if (out) expected = other;
        last_out = out;
        outs += out;
        ins += !out;
        preempted += (record->misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT) != 0;
        slept_preempted += !out && (record->misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT);
    }
    verdict(outs > 20 && abs(outs - ins) <= 1 && preempted && preempted < outs && !disorder && !slept_preempted, FACT,
            "%d out (%d preempted), %d in, %d out of order, %d visits missing", outs, preempted, ins, disorder, missing);
}
