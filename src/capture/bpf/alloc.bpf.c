// What programs allocate: a sample by bytes, with the stack of the call, and what becomes of each allocation that is sampled.
//
// Built by scripts/build-bpf into alloc.ARCH.bpf.o, which is part of the repository, so that building rprof takes no clang.
// `allocation` and `change` are read by src/record/probe.rs; `enum function` and `COOKIE_*` are those of src/capture/alloc.rs.
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

struct task_struct;

// Registers of the user, as programs at user space probes see them.
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
    u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#define ARGUMENT0(context) ((context)->di)
#define ARGUMENT1(context) ((context)->si)
#define ARGUMENT2(context) ((context)->dx)
#define RESULT(context) ((context)->ax)
#define INSTRUCTION(context) ((context)->ip)
#define STACK(context) ((context)->sp)
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
    u64 regs[31];
    u64 sp, pc, pstate;
};
#define ARGUMENT0(context) ((context)->regs[0])
#define ARGUMENT1(context) ((context)->regs[1])
#define ARGUMENT2(context) ((context)->regs[2])
#define RESULT(context) ((context)->regs[0])
#define INSTRUCTION(context) ((context)->pc)
#define STACK(context) ((context)->sp)
#endif

// What a function does, in the low byte of the cookie of its probes.
enum function {
    MALLOC,         // (size)
    CALLOC,         // (number, size)
    REALLOC,        // (memory, size)
    MEMALIGN,       // (alignment, size)
    POSIX_MEMALIGN, // (&memory, alignment, size)
    FREE,           // (memory)
};
#define COOKIE_RETURNS 0x100 // its return is probed whatever it is asked for: it may call another one, or it is not known beforehand
#define COOKIE_STEPPED 0x200 // the kernel executes the probed instruction in a step of its own

// Set before the programs are loaded.
const volatile u32 IN_USE = 0; // follow what is sampled until it is freed

// An allocation, with its stack. `period`: bytes that lie between two samples, on average.
struct allocation {
    u64 id;
    u64 process;
    u64 size;
    u64 period;
};

// An allocation that was sampled got its place, or (`address` is 0) is freed.
struct change {
    u64 id;
    u64 process;
    u64 address;
};

struct thread {
    s64 left;   // bytes until the next sample
    u64 period; // with which they were drawn; 0 at first
    u64 outer;  // the stack of the outermost function of an allocator that it is in
    u32 inside; // how many of them it is in, one called by the other
    u32 function;
    u64 id; // of the allocation, if it is sampled
    u64 size;
    u64 memory; // what it was given
};

struct counts {
    u64 entered;
    u64 stepped;
    u64 returned;
    u64 allocations;
    u64 bytes;
    u64 untracked;
    u64 next;
};

struct place {
    u64 process;
    u64 address;
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct thread);
} threads SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} allocations SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} changes SEC(".maps");

// The ids of what was sampled and is not freed, by where it lies.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1 << 20);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct place);
    __type(value, u64);
} live SEC(".maps");

// Gaps between samples as shares of the period, times 2^16: the quantiles of the exponential distribution. (A program may not reckon
// a logarithm.)
#define GAPS 4096
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, GAPS);
    __type(key, u32);
    __type(value, u32);
} gaps SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64);
} period SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct counts);
} counted SEC(".maps");

static __always_inline struct counts *counts(void)
{
    u32 zero = 0;
    return bpf_map_lookup_elem(&counted, &zero);
}

static __always_inline struct thread *this_thread(void)
{
    struct task_struct *task = bpf_get_current_task_btf();
    return bpf_task_storage_get(&threads, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

static __always_inline struct place place_of(u64 address)
{
    return (struct place){ .process = bpf_get_current_pid_tgid() >> 32, .address = address };
}

static __always_inline void forget(void *ctx, u64 address)
{
    struct place place = place_of(address);
    u64 *id = bpf_map_lookup_elem(&live, &place);
    if (!id)
        return;
    struct change change = { .id = *id, .process = place.process };
    bpf_map_delete_elem(&live, &place);
    bpf_perf_event_output(ctx, &changes, BPF_F_CURRENT_CPU, &change, sizeof(change));
}

static __always_inline void draw(struct thread *thread)
{
    u32 zero = 0, at = bpf_get_prandom_u32() & (GAPS - 1);
    u64 *bytes = bpf_map_lookup_elem(&period, &zero);
    u32 *gap = bpf_map_lookup_elem(&gaps, &at);
    if (!bytes || !gap)
        return;
    thread->period = *bytes;
    thread->left = (*gap * *bytes) >> 16;
}

// Every byte begins a sample with the same chance, whichever allocation it belongs to: an allocation of n bytes is sampled with a chance
// of 1 - exp(-n / period).
static __always_inline u64 sample(void *ctx, struct thread *thread, struct counts *counts, u64 size)
{
    if (!thread->period)
        draw(thread);
    thread->left -= size < 1ll << 48 ? size : 1ll << 48;
    if (thread->left >= 0)
        return 0;
    struct allocation allocation = { .size = size, .period = thread->period, .process = bpf_get_current_pid_tgid() >> 32 };
    draw(thread);
    allocation.id = ++counts->next << 16 | bpf_get_smp_processor_id();
    if (bpf_perf_event_output(ctx, &allocations, BPF_F_CURRENT_CPU, &allocation, sizeof(allocation)))
        return 0; // the ring counts what it had no room for
    return allocation.id;
}

static __always_inline u64 size_of(u32 function, struct pt_regs *ctx)
{
    switch (function) {
    case MALLOC:
        return ARGUMENT0(ctx);
    case CALLOC:
        return ARGUMENT0(ctx) * ARGUMENT1(ctx);
    case POSIX_MEMALIGN:
        return ARGUMENT2(ctx);
    default:
        return ARGUMENT1(ctx);
    }
}

static __always_inline void count_entry(struct counts *counts, u64 cookie)
{
    if (cookie & COOKIE_STEPPED)
        counts->stepped++;
    else
        counts->entered++;
}

// Answers whether it matters how the call returns.
static __always_inline bool enter(struct pt_regs *ctx, u64 cookie)
{
    u32 function = cookie & 0xff;
    struct thread *thread = this_thread();
    struct counts *counter = counts();
    if (!thread || !counter)
        return false;
    count_entry(counter, cookie);
    u64 stack = STACK(ctx);
    // It left the outer one in another way than by its return. (At the same stack, the outer one ends with a jump into this one.)
    if (thread->inside && stack > thread->outer)
        thread->inside = 0;
    bool returns = cookie & COOKIE_RETURNS;
    if (thread->inside) {
        thread->inside += returns;
        return returns;
    }
    u64 size = size_of(function, ctx);
    u64 id = 0;
    // realloc(memory, 0) frees.
    if (size || function != REALLOC) {
        counter->allocations++;
        counter->bytes += size;
        id = sample(ctx, thread, counter, size);
    }
    returns |= IN_USE && id;
    if (returns) {
        thread->inside = 1;
        thread->outer = stack;
        thread->id = id;
        thread->size = size;
        thread->memory = function == REALLOC || function == POSIX_MEMALIGN ? ARGUMENT0(ctx) : 0;
    }
    return returns;
}

static __always_inline void leave(struct pt_regs *ctx, u64 cookie)
{
    u32 function = cookie & 0xff;
    struct thread *thread = this_thread();
    struct counts *counter = counts();
    if (!thread || !counter)
        return;
    counter->returned++;
    if (!thread->inside || --thread->inside || !IN_USE)
        return;
    u64 address = RESULT(ctx);
    if (function == POSIX_MEMALIGN) {
        bool failed = (u32)address;
        address = 0;
        if (!failed)
            bpf_probe_read_user(&address, sizeof(address), (void *)thread->memory);
    }
    if (function == REALLOC && thread->memory && (address || !thread->size))
        forget(ctx, thread->memory);
    if (!thread->id || !address)
        return;
    struct place place = place_of(address);
    if (bpf_map_update_elem(&live, &place, &thread->id, BPF_ANY)) {
        counter->untracked++;
        return;
    }
    struct change change = { .id = thread->id, .address = address, .process = place.process };
    bpf_perf_event_output(ctx, &changes, BPF_F_CURRENT_CPU, &change, sizeof(change));
}

static __always_inline void release(struct pt_regs *ctx, u64 cookie)
{
    struct counts *counter = counts();
    if (!counter)
        return;
    count_entry(counter, cookie);
    u64 address = ARGUMENT0(ctx);
    if (address)
        forget(ctx, address);
}

// Before Linux 6.13: a program for each of the places, and all returns are probed if any must be.
SEC("uprobe/on_allocate")
int on_allocate(struct pt_regs *ctx)
{
    enter(ctx, bpf_get_attach_cookie(ctx));
    return 0;
}

SEC("uretprobe/on_return")
int on_return(struct pt_regs *ctx)
{
    leave(ctx, bpf_get_attach_cookie(ctx));
    return 0;
}

SEC("uprobe/on_free")
int on_free(struct pt_regs *ctx)
{
    release(ctx, bpf_get_attach_cookie(ctx));
    return 0;
}

// Since then one for all, which says of each call whether its return is to be probed (0) or not.
SEC("uprobe/session")
int session(struct pt_regs *ctx)
{
    u64 cookie = bpf_get_attach_cookie(ctx);
    if (INSTRUCTION(ctx) != bpf_get_func_ip(ctx)) {
        leave(ctx, cookie);
        return 0;
    }
    if ((cookie & 0xff) != FREE)
        return !enter(ctx, cookie);
    release(ctx, cookie);
    return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
