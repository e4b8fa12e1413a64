// Runs the blocks of a launch one after the other, each with one fiber per thread that has met a barrier.
//
// A thread runs alone until it waits or ends; `pick` then says who is next. Threads that never wait need no fiber of
// their own: the fiber that ran one goes on with the next. Switching makes no system calls.
#include "simt.h"

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SIMT_ASAN 1
#else
#define SIMT_ASAN 0
#endif

simt_dim3 threadIdx, blockIdx, blockDim, gridDim;
void* simt_dynamic_shared;
extern char simt_static_begin[], simt_static_end[];  // around the .bss of the unit, by the order of linking

// ---- Fibers ----

#if defined(__x86_64__)
extern "C" void simt_switch(void** save, void* load);
asm(R"(
.text
.p2align 4
.hidden simt_switch
.globl simt_switch
.type simt_switch, @function
simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size simt_switch, .-simt_switch
)");
static void* prepared(char* top, void (*entry)()) {
    void** sp = reinterpret_cast<void**>(top);
    *--sp = nullptr;  // where `entry` would return to
    *--sp = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--sp = nullptr;
    return sp;
}
#elif defined(__aarch64__)
extern "C" void simt_switch(void** save, void* load);
asm(R"(
.text
.p2align 4
.hidden simt_switch
.globl simt_switch
.type simt_switch, %function
simt_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size simt_switch, .-simt_switch
)");
static void* prepared(char* top, void (*entry)()) {
    void** sp = reinterpret_cast<void**>(top) - 20;
    std::memset(sp, 0, 160);
    sp[11] = reinterpret_cast<void*>(entry);  // x30
    return sp;
}
#else
#error "the simulator switches fibers on x86-64 and aarch64 only"
#endif

namespace {

constexpr int MAX_THREADS = 1024, WARP = 32, MAX_WARPS = MAX_THREADS / WARP;
constexpr size_t STACK = SIMT_ASAN ? 512 << 10 : 64 << 10, PAGE = 64 << 10;

struct Fiber {
    void* sp = nullptr;
    char* stack = nullptr;
    size_t size = STACK;
    void* fake_stack = nullptr;  // the sanitizer's
};

enum State : unsigned char { UNSTARTED, READY, AT_BARRIER, AT_WARP, DONE };

struct Thread {
    State state;
    Fiber* fiber;
    unsigned mask;
    int line;
    const char *what, *file;
};

struct Machine {
    Thread threads[MAX_THREADS];
    simt_lane lanes[MAX_THREADS];
    unsigned ready_warps, ready[MAX_WARPS], at_warp[MAX_WARPS];
    int count, done, at_barrier;
    int current, picked;  // threads; -1: none
    int order;
    uint64_t random;
    const simt_launch* launch;
    Fiber main, *fiber, *previous;  // of the caller; that runs; that ran before
    Fiber* all[MAX_THREADS + 1];
    int made;
    Fiber* free[MAX_THREADS + 1];
    int free_count;
    char text[1024];
    bool faulty;
};
Machine m;
std::mutex one_launch;  // blocks, and the shared memory that is static, exist once

void fiber_main();

void prepare(Fiber& fiber, int number) {
#if SIMT_ASAN
    __asan_unpoison_memory_region(fiber.stack, STACK);
#endif
    // Stacks begin at different cache sets: with all at the same one, switching would miss the cache every time.
    fiber.sp = prepared(fiber.stack + STACK - 64 * 3 * (number % 64), fiber_main);
    fiber.fake_stack = nullptr;
}

Fiber* take_fiber() {
    if (m.free_count) return m.free[--m.free_count];
    void* area = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) std::abort();
    mprotect(area, PAGE, PROT_NONE);  // below the stack
    Fiber* fiber = new Fiber;
    fiber->stack = static_cast<char*>(area) + PAGE;
    prepare(*fiber, m.made);
    return m.all[m.made++] = fiber;
}

// After a fault: whatever the fibers were doing, they begin anew.
void reset_fibers() {
    for (m.free_count = 0; m.free_count < m.made; ++m.free_count) {
        prepare(*m.all[m.free_count], m.free_count);
        m.free[m.free_count] = m.all[m.free_count];
    }
}

// The sanitizer is told of every arrival on a stack, and tells where that of the main program lies.
inline void arrived(void* fake_stack) {
#if SIMT_ASAN
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    if (m.previous == &m.main) m.main.stack = static_cast<char*>(const_cast<void*>(bottom)), m.main.size = size;
#else
    (void)fake_stack;
#endif
}

inline void switch_to(Fiber* to) {
    Fiber* from = m.previous = m.fiber;
    m.fiber = to;
#if SIMT_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->size);
#endif
    simt_switch(&from->sp, to->sp);
    arrived(from->fake_stack);
}

// ---- Faults ----

[[noreturn]] void fault(const char* format, ...) {
    size_t used = size_t(std::snprintf(m.text, sizeof m.text, "%s, block (%u, %u): ", m.launch->kernel, blockIdx.x, blockIdx.y));
    if (blockIdx.z) used += size_t(std::snprintf(m.text + used, sizeof m.text - used, "of model %u: ", blockIdx.z));
    va_list list;
    va_start(list, format);
    std::vsnprintf(m.text + used, sizeof m.text - used, format, list);
    va_end(list);
    m.faulty = true;
    switch_to(&m.main);
    std::abort();
}

const char* base(const char* file) {
    const char* slash = std::strrchr(file, '/');
    return slash ? slash + 1 : file;
}

// Nobody can go on: says who waits for whom.
[[noreturn]] void report_deadlock() {
    for (int i = 0; i < m.count; ++i) {  // an operation of a warp first: barriers may only wait for it
        const Thread& t = m.threads[i];
        if (t.state != AT_WARP) continue;
        for (int lane = 0; lane < WARP; ++lane) {
            const int other = i / WARP * WARP + lane;
            if (!(t.mask >> lane & 1)) continue;
            if (other >= m.count || m.threads[other].state == DONE)
                fault("thread %d waits at %s (%s:%d) whose mask %#x names lane %d, but that %s", i, t.what, base(t.file),
                      t.line, t.mask, lane, other >= m.count ? "does not exist" : "has exited");
            const Thread& o = m.threads[other];
            if (o.state == AT_BARRIER || o.mask != t.mask)
                fault("thread %d waits at %s (%s:%d, mask %#x) for thread %d, which waits at %s (%s:%d, mask %#x)", i,
                      t.what, base(t.file), t.line, t.mask, other, o.what, base(o.file), o.line, o.mask);
        }
    }
    int waits = -1, exited = -1;
    for (int i = m.count - 1; i >= 0; --i) (m.threads[i].state == DONE ? exited : waits) = i;
    const Thread& t = m.threads[waits];
    fault("thread %d waits at %s (%s:%d), but thread %d has exited", waits, t.what, base(t.file), t.line, exited);
}

// ---- Who is next ----

inline uint64_t next_random() {
    m.random ^= m.random >> 12;
    m.random ^= m.random << 25;
    m.random ^= m.random >> 27;
    return m.random * 0x2545f4914f6cdd1dull;
}

inline int choose(unsigned mask) {
    if (m.order == 0) return __builtin_ctz(mask);
    if (m.order == 1) return 31 - __builtin_clz(mask);
    for (auto skip = (next_random() >> 32) * unsigned(__builtin_popcount(mask)) >> 32; skip; --skip) mask &= mask - 1;
    return __builtin_ctz(mask);
}

inline void make_ready(int thread) {
    m.ready[thread / WARP] |= 1u << thread % WARP;
    m.ready_warps |= 1u << thread / WARP;
}

// The next thread that can go on, or -1.
inline int pick() {
    if (!m.ready_warps) return -1;
    const int warp = choose(m.ready_warps), lane = choose(m.ready[warp]);
    m.ready[warp] &= ~(1u << lane);
    if (!m.ready[warp]) m.ready_warps &= ~(1u << warp);
    return warp * WARP + lane;
}

inline void become(int thread) {
    m.current = thread;
    threadIdx.x = unsigned(thread);
}

// The current thread waits: others run until somebody lets it go on.
void wait() {
    const int self = m.current;
    m.threads[self].fiber = m.fiber;
    const int next = pick();
    if (next < 0) report_deadlock();
    if (next != self) {
        m.picked = next;
        switch_to(m.threads[next].state == UNSTARTED ? take_fiber() : m.threads[next].fiber);
    }
    m.threads[self].state = READY;
    become(self);
}

// Threads from their beginning to their end, as long as there are any.
void fiber_main() {
    arrived(nullptr);
    for (;;) {
        const int thread = m.picked;
        m.threads[thread].state = READY;
        become(thread);
        m.launch->body(m.launch->args);
        m.threads[thread].state = DONE;
        ++m.done;
        const int next = pick();
        m.picked = next;
        if (next >= 0 && m.threads[next].state == UNSTARTED) continue;
        if (next < 0 && m.done < m.count) report_deadlock();
        m.free[m.free_count++] = m.fiber;
        switch_to(next < 0 ? &m.main : m.threads[next].fiber);
    }
}

// With a sanitizer not memset, which would be seen to write into the red zones between the variables.
__attribute__((no_sanitize("address", "undefined"))) void fill(char* from, char* to) {
#if SIMT_ASAN
    for (volatile char* p = from; p < to; ++p) *p = char(0xff);
#else
    std::memset(from, 0xff, size_t(to - from));
#endif
}

void run_block(unsigned number) {
    const simt_launch& launch = *m.launch;
    blockIdx = {number % launch.grid_x, number / launch.grid_x % launch.grid_y, number / launch.grid_x / launch.grid_y};
    fill(simt_static_begin, simt_static_end);
    if (launch.shared) std::memset(simt_dynamic_shared, 0xff, launch.shared);
    for (int i = 0; i < m.count; ++i) m.threads[i].state = UNSTARTED;
    m.ready_warps = 0;
    for (int warp = 0; warp * WARP < m.count; ++warp) {
        const int lanes = m.count - warp * WARP;
        m.ready[warp] = lanes >= WARP ? ~0u : (1u << lanes) - 1;
        m.ready_warps |= 1u << warp;
        m.at_warp[warp] = 0;
    }
    m.done = m.at_barrier = 0;
    m.picked = pick();
    switch_to(take_fiber());
}

#if defined(__x86_64__)
unsigned set_flush(bool on) {
    const unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(on ? before | 0x8040u : before);
    return before;
}
void restore_flush(unsigned before) { __builtin_ia32_ldmxcsr(before); }
#else
uint64_t set_flush(bool on) {
    uint64_t before;
    asm volatile("mrs %0, fpcr" : "=r"(before));
    const uint64_t now = on ? before | 1ull << 24 : before;
    asm volatile("msr fpcr, %0" : : "r"(now));
    return before;
}
void restore_flush(uint64_t before) { asm volatile("msr fpcr, %0" : : "r"(before)); }
#endif

// ---- Addresses that nobody has ----

// While a launch runs, a bad access ends the launch, not the process. A sanitizer has a better report of its own.
class Guard {
  public:
    Guard() {
#if !SIMT_ASAN
        static char area[64 << 10];
        stack_t alternative = {};
        alternative.ss_sp = area, alternative.ss_size = sizeof area;
        sigaltstack(&alternative, &stack_);
        struct sigaction action = {};
        action.sa_sigaction = handle;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigemptyset(&action.sa_mask);
        thread_ = pthread_self();
        for (int i = 0; i < 2; ++i) sigaction(SIGNALS[i], &action, &before_[i]);
#endif
    }
    ~Guard() {
#if !SIMT_ASAN
        for (int i = 0; i < 2; ++i) sigaction(SIGNALS[i], &before_[i], nullptr);
        sigaltstack(&stack_, nullptr);
#endif
    }

  private:
    static void handle(int signal, siginfo_t* info, void*) {
        if (!pthread_equal(thread_, pthread_self()) || m.fiber == &m.main) {  // not a kernel's
            for (int i = 0; i < 2; ++i)
                if (SIGNALS[i] == signal) sigaction(signal, &before_[i], nullptr);
            return;
        }
#if defined(SI_KERNEL)
        if (info->si_code == SI_KERNEL)  // the processor refused it unseen, and si_addr is 0
            fault("thread %d: no access to an address outside of the address space", m.current);
#endif
        fault("thread %d: no access to address %p", m.current, info->si_addr);
    }
    static constexpr int SIGNALS[2] = {SIGSEGV, SIGBUS};
    static inline struct sigaction before_[2];
    static inline stack_t stack_;
    static inline pthread_t thread_;
};

}  // namespace

// ---- What device code calls ----

void simt_fault(const char* text, const char* file, int line) {
    fault("thread %d: %s (%s:%d)", m.current, text, base(file), line);
}

void simt_barrier(const char* file, int line) {
    Thread& self = m.threads[m.current];
    self.state = AT_BARRIER, self.what = "__syncthreads", self.file = file, self.line = line, self.mask = 0;
    if (++m.at_barrier == m.count) {
        for (int i = 0; i < m.count; ++i) {
            const Thread& t = m.threads[i];
            if (t.line != line || std::strcmp(t.file, file) != 0)
                fault("thread %d waits at __syncthreads (%s:%d), thread %d at another (%s:%d)", i, base(t.file), t.line,
                      m.current, base(file), line);
        }
        m.at_barrier = 0;
        for (int i = 0; i < m.count; ++i) make_ready(i);
    }
    wait();
}

simt_bits simt_warp(const char* what, unsigned mask, simt_bits value, int argument, int width, simt_combine* combine,
                    const char* file, int line) {
    const int warp = m.current / WARP, lane = m.current % WARP;
    if (!(mask >> lane & 1)) fault("thread %d calls %s (%s:%d) with mask %#x, which leaves it out", m.current, what, base(file), line, mask);
    if (width < 1 || width > WARP || width & (width - 1)) simt_fault("the width of a shuffle is a power of two up to 32", file, line);
    Thread* threads = m.threads + warp * WARP;
    simt_lane* lanes = m.lanes + warp * WARP;
    Thread& self = threads[lane];
    self.state = AT_WARP, self.what = what, self.file = file, self.line = line, self.mask = mask;
    lanes[lane].value = value, lanes[lane].argument = argument, lanes[lane].width = width;
    m.at_warp[warp] |= 1u << lane;
    bool complete = (m.at_warp[warp] & mask) == mask;
    for (unsigned left = mask; complete && left; left &= left - 1) complete = threads[__builtin_ctz(left)].mask == mask;
    if (complete) {
        for (unsigned left = mask; left; left &= left - 1) {
            const int other = __builtin_ctz(left);
            const Thread& t = threads[other];
            if (t.line != line || t.what != what || std::strcmp(t.file, file) != 0)
                fault("thread %d waits at %s (%s:%d), thread %d of its warp at %s (%s:%d)", warp * WARP + other, t.what,
                      base(t.file), t.line, m.current, what, base(file), line);
        }
        combine(lanes, mask);
        m.at_warp[warp] &= ~mask;
        m.ready[warp] |= mask;
        m.ready_warps |= 1u << warp;
    }
    wait();
    return m.lanes[m.current].result;
}

const char* simt_run(const simt_launch& launch) {
    const std::lock_guard<std::mutex> lock(one_launch);
    m.launch = &launch;
    m.count = int(launch.threads);
    m.order = launch.order;
    m.random = launch.seed * 0x9e3779b97f4a7c15ull + 0x1234567887654321ull;
    m.faulty = false;
    m.fiber = &m.main;
    blockDim = {launch.threads, 1, 1};
    gridDim = {launch.grid_x, launch.grid_y, launch.grid_z};
    const size_t blocks = size_t(launch.grid_x) * launch.grid_y * launch.grid_z;
    simt_dynamic_shared = launch.shared ? std::malloc(launch.shared) : nullptr;  // exactly: red zones lie around it
    const auto before = set_flush(launch.flush);
    // Shuffled: every block has another multiple of a step that shares no factor with their number.
    size_t step = 1, first = 0;
    if (launch.order == 2 && blocks > 2) {
        const auto gcd = [](size_t a, size_t b) {
            while (b) { const size_t rest = a % b; a = b, b = rest; }
            return a;
        };
        first = next_random() % blocks;
        do step = 1 + next_random() % (blocks - 1);
        while (gcd(step, blocks) != 1);
    }
    {
        const Guard guard;
        for (size_t i = 0; i < blocks && !m.faulty; ++i)
            run_block(unsigned(launch.order == 1 ? blocks - 1 - i : (first + i * step) % blocks));
    }
    restore_flush(before);
    std::free(simt_dynamic_shared);
    if (m.faulty) reset_fibers();
    return m.faulty ? m.text : nullptr;
}

// ---- Checks that g++ puts into the unsanitized build too: a GPU faults there as well ----

#if !SIMT_ASAN
namespace {
struct Location {
    const char* file;
    unsigned line, column;
};
struct Mismatch {
    Location at;
    void* type;
    unsigned char log_alignment, kind;
};
}  // namespace
extern "C" {
__attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(Mismatch* data, uintptr_t address) {
    if (!address) simt_fault("null pointer", data->at.file, int(data->at.line));
    fault("thread %d: address %#zx is not a multiple of %u (%s:%u)", m.current, size_t(address), 1u << data->log_alignment,
          base(data->at.file), data->at.line);
}
__attribute__((visibility("hidden"))) void __ubsan_handle_out_of_bounds(Location* at, size_t subscript) {
    fault("thread %d: index %zd lies outside of the array (%s:%u)", m.current, subscript, base(at->file), at->line);
}
__attribute__((visibility("hidden"))) void __ubsan_handle_divrem_overflow(Location* at, size_t, size_t) {
    simt_fault("division by zero", at->file, int(at->line));
}
}
#endif
