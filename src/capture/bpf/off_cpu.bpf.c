// The times that threads spend away from a CPU, as intervals: the stack is taken where one begins, the rest is told where it ends.
//
// Built by scripts/build-bpf into off_cpu.ARCH.bpf.o, which is part of the repository, so that building rprof takes no clang.
// `begin` and `end` are read by src/record/probe.rs, `left_out` by src/capture/off_cpu.rs.
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

// What is read of the kernel's structs; where it lies there is found when the program is loaded.
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sched_entity {
    u64 sum_exec_runtime;
    u64 prev_sum_exec_runtime;
};
struct task_struct {
    int pid;
    int tgid;
    unsigned int flags;
    unsigned int __state;
    int on_cpu;
    u64 start_time;
    struct sched_entity se;
};
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
    unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
    u64 regs[31];
    u64 sp, pc, pstate;
};
struct pt_regs {
    struct user_pt_regs user_regs;
    int syscallno;
};
#endif
struct seq_file;
struct bpf_iter_meta {
    struct seq_file *seq;
};
struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
};
#pragma clang attribute pop

// include/linux/sched.h
#define TASK_DEAD 0x80
#define TASK_ASLEEP 0x3
#define PF_KTHREAD 0x00200000
#define TASK_COMM_LEN 16

// In `state`, beside the kernel's bits: it waits for a lock.
#define LOCK 0x80000000

// How often it is looked how many threads leave each CPU.
#define EPOCH 10000000ull // 10 ms
#define MOST_CGROUPS 16

// Set before the programs are loaded.
const volatile u32 ONLY_WANTED = 0; // only tasks of `wanted`, and with INHERIT those that they start
const volatile u32 BY_THREAD = 0;   // `wanted` holds threads, else processes
const volatile u32 INHERIT = 0;
const volatile u32 CGROUPS = 0; // only tasks in one of so many cgroups
const volatile u64 SHORTEST = 0; // times that are shorter do not count
const volatile u32 LOCKS = 0;    // it is asked which of them are waits for locks
const volatile u32 RUNS = 0;     // it is asked how long threads had a CPU
const volatile u64 LOADED = 0;   // when these programs were not there yet

// A thread has left its CPU. `stride`: it stands for so many that did. `state`: the kernel's bits, 0 if it could have run on, and
// LOCK.
struct begin {
    u64 task;
    u64 out;
    u32 stride;
    u32 state;
};

// It is back. `woken` is 0 where nobody woke it, `out` where a thread that ends tells only what is `left`: its times away that began
// without its stack being taken, as far as they were not told yet (in sum: a census that tells them at the same moment makes one of them
// negative). `ran`, in the same way: how long the thread had a CPU.
struct end {
    u64 task;
    u64 out;
    u64 woken;
    u64 in;
    u64 waker;
    char waker_comm[TASK_COMM_LEN];
    s64 left;
    u64 ran;
};

struct away {
    u64 out; // 0 while it runs, and before it was seen
    u64 woken;
    u64 in;     // of an end for which the ring had no room
    u32 stride; // 0 if its stack was not taken
    u32 wanted; // 0 if not known yet, 1 yes, 2 no
    u64 lock;   // of the kernel, that it waits for; else 0
    u64 waker;
    char waker_comm[TASK_COMM_LEN];
    s64 left;
    // Where it is asked for how long threads had a CPU. By the wall: the scheduler's own sum leaves out what a hypervisor took meanwhile.
    u64 on;   // since when it has one; 0 if it has none, or is not known yet
    u64 ran;  // until it last left one
    u64 told; // of it
};

// Of each CPU.
struct pace {
    u64 epoch;
    u32 seen;
    u32 taken;
    u32 stride;
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct away);
} tasks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} begins SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} ends SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
    __uint(max_entries, MOST_CGROUPS);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} cgroups SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1 << 16);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, u32);
    __type(value, u32);
} wanted SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct pace);
} paces SEC(".maps");

// Stacks that are taken of a CPU in an epoch, more or less.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u32);
} most SEC(".maps");

// How many departures the next one stands for if its stack is taken; 0 if it is not. The choice is made by lot, before it is known how
// long the thread will be away: so the sum of (length times stride) has no bias, whatever the stride is.
static __always_inline u32 draw(u64 now)
{
    u32 zero = 0;
    struct pace *pace = bpf_map_lookup_elem(&paces, &zero);
    u32 *limit = bpf_map_lookup_elem(&most, &zero);
    if (!pace || !limit || !*limit)
        return 0;
    u64 past = now - pace->epoch;
    if (past >= EPOCH) {
        u64 stride = pace->seen / (past / EPOCH) / *limit;
        pace->stride = stride ? stride : 1;
        pace->epoch = now;
        pace->seen = pace->taken = 0;
    }
    pace->seen++;
    u32 stride = pace->stride;
    if (stride > 1 && (u32)(((u64)bpf_get_prandom_u32() * stride) >> 32))
        return 0;
    // More than in the epoch before: half as often from now on.
    if (++pace->taken % *limit == 0 && stride < 1 << 20)
        pace->stride = stride * 2;
    return stride;
}

static __always_inline bool is_wanted(struct task_struct *task, struct away *away)
{
    if (task->flags & PF_KTHREAD)
        return false;
    if (ONLY_WANTED) {
        if (!away->wanted) {
            u32 id = BY_THREAD ? task->pid : task->tgid;
            away->wanted = bpf_map_lookup_elem(&wanted, &id) ? 1 : 2;
        }
        return away->wanted == 1;
    }
    for (u32 at = 0; at < MOST_CGROUPS && at < CGROUPS; at++)
        if (bpf_current_task_under_cgroup(&cgroups, at) == 1)
            return true;
    return !CGROUPS;
}

// The system call that a thread is in, and its second argument.
#if defined(__TARGET_ARCH_x86)
#define CALL(regs) ((int)(regs)->orig_ax)
#define SECOND(regs) ((regs)->si)
#define FUTEX 202
#elif defined(__TARGET_ARCH_arm64)
#define CALL(regs) ((regs)->syscallno)
#define SECOND(regs) ((regs)->user_regs.regs[1])
#define FUTEX 98
#endif
#define FUTEX_WAITV 449 // of every architecture
#define FUTEX_WAIT2 455

// What threads wait for in futex(2): a mutex, a condition, a semaphore, the end of a thread.
static __always_inline bool waits_for_lock(struct task_struct *task, struct away *away)
{
    if (away->lock)
        return true;
    struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
    int call = CALL(regs);
    if (call == FUTEX_WAITV || call == FUTEX_WAIT2)
        return true;
    if (call != FUTEX)
        return false;
    switch (SECOND(regs) & 0x7f) {
    case 0:  // FUTEX_WAIT
    case 6:  // FUTEX_LOCK_PI
    case 9:  // FUTEX_WAIT_BITSET
    case 11: // FUTEX_WAIT_REQUEUE_PI
    case 13: // FUTEX_LOCK_PI2
        return true;
    }
    return false;
}

static __always_inline u32 state_of(struct task_struct *task, struct away *away, u32 state)
{
    return LOCKS && state & TASK_ASLEEP && waits_for_lock(task, away) ? state | LOCK : state;
}

// include/trace/events/lock.h: LCB_F_SPIN. Who spins does not leave its CPU.
#define SPINS 1

SEC("tp_btf/contention_begin")
int BPF_PROG(on_contention_begin, void *lock, unsigned int flags)
{
    struct task_struct *task = bpf_get_current_task_btf();
    if (flags & SPINS || !task->pid)
        return 0;
    struct away *away = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (away)
        away->lock = (u64)lock;
    return 0;
}

SEC("tp_btf/contention_end")
int BPF_PROG(on_contention_end, void *lock)
{
    struct away *away = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 0);
    if (away && away->lock == (u64)lock)
        away->lock = 0;
    return 0;
}

static __always_inline void tell_end(void *ctx, struct task_struct *task, struct away *away, u64 in)
{
    struct end end = {
        .task = task->pid, .out = away->out, .woken = away->woken, .in = in, .waker = away->waker, .left = away->left,
    };
    __builtin_memcpy(end.waker_comm, away->waker_comm, TASK_COMM_LEN);
    if (bpf_perf_event_output(ctx, &ends, BPF_F_CURRENT_CPU, &end, sizeof(end))) {
        away->in = in; // told when it leaves again
    } else {
        away->in = away->stride = 0;
        __sync_fetch_and_add(&away->left, -end.left);
    }
}

// A thread is on a CPU since `in`.
static __always_inline void come_back(void *ctx, struct task_struct *task, struct away *away, u64 in)
{
    if (away->stride)
        tell_end(ctx, task, away, in);
    else if (away->out && in >= away->out + SHORTEST)
        __sync_fetch_and_add(&away->left, in - away->out);
    if (!away->in)
        away->out = 0;
}

// Nanoseconds that a thread which leaves its CPU has had it.
static __always_inline u64 has_run_for(struct task_struct *task)
{
    return task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempted, struct task_struct *prev, struct task_struct *next, unsigned int state)
{
    u64 now = bpf_ktime_get_ns();
    struct away *away = next->pid ? bpf_task_storage_get(&tasks, next, 0, RUNS ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0) : 0;
    if (away) {
        come_back(ctx, next, away, now);
        away->on = now;
    }
    if (!prev->pid || state & TASK_DEAD)
        return 0;
    away = bpf_task_storage_get(&tasks, prev, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!away || !is_wanted(prev, away))
        return 0;
    // Its return was not told for want of room, or was not traced, as those are not that follow some threads of hypervisors' agents.
    if (away->out)
        come_back(ctx, prev, away, away->in ? away->in : now - has_run_for(prev));
    away->ran += now - (away->on ? away->on : now - has_run_for(prev));
    away->on = 0;
    away->out = now;
    away->woken = away->waker = away->in = 0;
    away->stride = draw(now);
    if (!away->stride)
        return 0;
    struct begin begin = { .task = prev->pid, .out = now, .stride = away->stride };
    begin.state = preempted ? 0 : state_of(prev, away, state);
    if (bpf_perf_event_output(ctx, &begins, BPF_F_CURRENT_CPU, &begin, sizeof(begin)))
        away->stride = 0; // the ring counts what it had no room for
    return 0;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *task)
{
    struct away *away = bpf_task_storage_get(&tasks, task, 0, 0);
    if (away && away->out && !away->woken && !away->in) {
        away->woken = bpf_ktime_get_ns();
        away->waker = bpf_get_current_pid_tgid() >> 32;
        bpf_get_current_comm(away->waker_comm, TASK_COMM_LEN);
    }
    return 0;
}

// How long a thread had a CPU, as far as it was not told yet.
static __always_inline u64 take_run(struct task_struct *task, struct away *away)
{
    if (!RUNS)
        return 0;
    u64 now = bpf_ktime_get_ns();
    if (task->on_cpu && !away->on)
        away->on = now; // since before it was seen first
    u64 on = away->on, all = away->ran;
    // It may leave its CPU at this moment: what is read of it then is told the next time.
    if (task->on_cpu && on && on < now && *(volatile u64 *)&away->on == on)
        all += now - on;
    if (all <= away->told)
        return 0;
    u64 ran = all - away->told;
    away->told = all;
    return ran;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
    struct away *away = bpf_task_storage_get(&tasks, task, 0, RUNS ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
    if (!away || (RUNS && !is_wanted(task, away)))
        return 0;
    struct end end = { .task = task->pid, .left = away->left, .ran = take_run(task, away) };
    if (!end.left && !end.ran)
        return 0;
    // A census may still meet it.
    if (!bpf_perf_event_output(ctx, &ends, BPF_F_CURRENT_CPU, &end, sizeof(end)))
        __sync_fetch_and_add(&away->left, -end.left);
    return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
    if (!ONLY_WANTED || !INHERIT)
        return 0;
    struct away *from = bpf_task_storage_get(&tasks, parent, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!from || !is_wanted(parent, from))
        return 0;
    struct away *to = bpf_task_storage_get(&tasks, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (to)
        to->wanted = 1;
    return 0;
}

// What the lot left out of a thread, told by the census: a time away that goes on (else `out` is 0), and those that have ended.
struct left_out {
    u64 out;
    s64 left;
    u64 ran;
    u32 tgid;
    u32 tid;
    u32 state;
    u32 depth;
    u64 kernel[64];
    u64 regs[33]; // in the order of the kernel's asm/perf_regs.h
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct left_out);
} rooms SEC(".maps");

static __always_inline void read_registers(struct left_out *to, struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
    u64 all[] = {
        regs->ax, regs->bx, regs->cx, regs->dx, regs->si, regs->di, regs->bp, regs->sp, regs->ip,
        regs->r8, regs->r9, regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15,
    };
    __builtin_memcpy(to->regs, all, sizeof(all));
#elif defined(__TARGET_ARCH_arm64)
    for (int at = 0; at < 31; at++)
        to->regs[at] = regs->user_regs.regs[at];
    to->regs[31] = regs->user_regs.sp;
    to->regs[32] = regs->user_regs.pc;
#endif
}

SEC("iter/task")
int census(struct bpf_iter__task *ctx)
{
    u32 zero = 0;
    struct task_struct *task = ctx->task;
    struct left_out *room = bpf_map_lookup_elem(&rooms, &zero);
    if (!task || !room || task->flags & PF_KTHREAD || task->__state & TASK_DEAD)
        return 0;
    struct away *away = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!away || (ONLY_WANTED && !is_wanted(task, away)))
        return 0;
    room->out = room->depth = room->state = 0;
    room->tid = task->pid;
    room->tgid = task->tgid;
    room->left = away->left;
    room->ran = take_run(task, away);
    if (room->left)
        __sync_fetch_and_add(&away->left, -room->left);
    // A thread that has set its state may yet go on without leaving its CPU. One that never left it since we look, and has none, is away
    // since before.
    bool before = !away->out && task->start_time < LOADED;
    bool found = !task->on_cpu && !away->stride && !away->in && (before || (away->out && task->__state));
    if (found) {
        // Its end is told from now on. Should it have come back meanwhile, its next departure is seen as usual.
        away->stride = 1;
        if (before)
            __sync_val_compare_and_swap(&away->out, 0, LOADED);
        room->out = away->out;
        room->state = state_of(task, away, task->__state);
        if (task->on_cpu || (!before && !task->__state)) {
            away->stride = room->out = 0;
            __sync_val_compare_and_swap(&away->out, LOADED, 0);
        }
    }
    if (!room->out) {
        if (room->left || room->ran)
            bpf_seq_write(ctx->meta->seq, room, sizeof(*room));
        return 0;
    }
    long bytes = bpf_get_task_stack(task, room->kernel, sizeof(room->kernel), 0);
    room->depth = bytes > 0 ? (u64)bytes / sizeof(u64) : 0;
    read_registers(room, (struct pt_regs *)bpf_task_pt_regs(task));
    bpf_seq_write(ctx->meta->seq, room, sizeof(*room));
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
