// Fact: PERF_EVENT_IOC_SET_OUTPUT sends the records of several events of one CPU into one ring; PERF_SAMPLE_IDENTIFIER, the first
// word of a sample and the last of any other record, names the event (its PERF_EVENT_IOC_ID). Events of two CPUs cannot share.
// Source: perf_event_open(2), PERF_EVENT_IOC_SET_OUTPUT; kernel/events/core.c, perf_event_set_output (different cpus: EINVAL).
#include "check.h"

#define FACT "SET_OUTPUT: events of one CPU share a ring, IDENTIFIER tells them apart"

int main(void) {
    int cpu = sched_getcpu();
    bind_to(cpu);
    struct perf_event_attr clock = cpu_clock(1000, PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID);
    struct perf_event_attr dummy = sideband();
    dummy.sample_type |= PERF_SAMPLE_IDENTIFIER;
    dummy.comm = 1;
    int owner = perf_open(&dummy, 0, cpu, -1, 0), guest = perf_open(&clock, 0, cpu, -1, 0);
    if (owner < 0 || guest < 0) verdict(0, FACT, "perf_event_open: %s", strerror(errno));
    ring_t *ring = ring_map(owner, 8);
    uint64_t owner_id = 0, guest_id = 0;
    ioctl(owner, PERF_EVENT_IOC_ID, &owner_id);
    ioctl(guest, PERF_EVENT_IOC_ID, &guest_id);
    if (ioctl(guest, PERF_EVENT_IOC_SET_OUTPUT, owner)) verdict(0, FACT, "SET_OUTPUT: %s", strerror(errno));
    int other_refused = -1;
    if (cpus() > 1) {
        int other = perf_open(&clock, 0, !cpu, -1, 0);
        other_refused = ioctl(other, PERF_EVENT_IOC_SET_OUTPUT, owner) != 0 && errno == EINVAL;
    }
    prctl(PR_SET_NAME, "renamed");
    burn_ms(30);
    disable(guest);
    int samples = 0, comms = 0, wrong = 0;
    for (struct perf_event_header *record; (record = ring_next(ring));) {
        if (record->type == PERF_RECORD_SAMPLE) samples++, wrong += body(record)[0] != guest_id;
        if (record->type == PERF_RECORD_COMM) comms++, wrong += *trailer(record, 1) != owner_id;
    }
    verdict(samples > 5 && comms == 1 && !wrong && other_refused != 0, FACT, "%d samples, %d COMM, %d with a wrong id; another CPU's event %s",
            samples, comms, wrong, other_refused == 1 ? "is refused" : other_refused ? "was not tried" : "is let in");
}
