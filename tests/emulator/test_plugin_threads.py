"""Threads, processes and signals: real programs on the C library's own threads."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.qemu

# Rounds in which the main thread works, then all others do, and who has none waits.
WAITING = r"""
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int turn, done;
static char how;
static int rounds;
static long each;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void work(long n) { /* 2 n instructions */
  __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(n) : : "cc");
}

static void wait_for(atomic_int *flag, int value) {
  if (how == 'c') pthread_mutex_lock(&lock);
  for (int seen; (seen = atomic_load(flag)) < value;) switch (how) {
      case 'y': sched_yield(); break;
      case 'h': __asm__ volatile("yield"); break;
      case 's': usleep(100); break;
      case 'f': syscall(SYS_futex, flag, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0); break;
      case 'c': pthread_cond_wait(&changed, &lock); break;
    }
  if (how == 'c') pthread_mutex_unlock(&lock);
}

static void tell(atomic_int *flag) {
  if (how == 'c') pthread_mutex_lock(&lock);
  atomic_fetch_add(flag, 1);
  if (how == 'f') syscall(SYS_futex, flag, FUTEX_WAKE_PRIVATE, 100, 0, 0, 0);
  if (how == 'c') pthread_cond_broadcast(&changed);
  if (how == 'c') pthread_mutex_unlock(&lock);
}

static void *worker(void *nothing) {
  for (int i = 1; i <= rounds; ++i) {
    wait_for(&turn, i);
    work(each);
    tell(&done);
  }
  return nothing;
}

int main(int argc, char **argv) {
  struct timespec now;
  pthread_t threads[3];
  how = argv[1][0], rounds = atoi(argv[2]), each = atol(argv[3]);
  for (int i = 0; i < 3; ++i) pthread_create(&threads[i], 0, worker, 0);
  usleep(20000);
  clock_gettime(CLOCK_MONOTONIC, &now);
  for (int i = 1; i <= rounds; ++i) {
    work(4 * each);
    tell(&turn);
    wait_for(&done, 3 * i);
  }
  clock_gettime(CLOCK_MONOTONIC, &now);
  for (int i = 0; i < 3; ++i) pthread_join(threads[i], 0);
  return 0;
}
"""
# What a thread may count for each time that it waits: the first look, which is not
# known yet to be waiting, the last one, and what wakes the others.
PER_WAIT = {"yield": 200, "hint": 200, "futex": 400, "sleep": 400, "condition": 2500}


@pytest.mark.parametrize("how", PER_WAIT)
def test_waiting_is_not_counted(count, build, how: str) -> None:
    program = build(WAITING, kind="c")
    rounds, each = 5, 300_000
    work = [2 * rounds * 4 * each] + [2 * rounds * each] * 3
    totals = []
    for _ in range(2):
        found = count(program, how, str(rounds), str(each))
        (segment,) = (s for s in found.recording.segments if s.number == 2)
        for thread, expected in enumerate(work):
            executed = found.recording.instructions(segment.threads[thread])
            assert 0 <= executed - expected <= rounds * PER_WAIT[how] + 2000
        totals.append(found.instructions)
    assert totals[0] == pytest.approx(totals[1], rel=1e-2)


LIVES = r"""
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct timespec now;
static volatile sig_atomic_t handled;

static void work(long n) {
  __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(n) : : "cc");
}
static void *once(void *n) {
  work((long)n);
  return n;
}
static void *looks_at_the_clock(void *n) {
  clock_gettime(CLOCK_MONOTONIC, &now);
  return n;
}
static void *never_ends(void *n) {
  for (;;) work(1000);
  return n;
}
static void spawn(void *(*body)(void *), long argument) {
  pthread_t thread;
  if (pthread_create(&thread, 0, body, (void *)argument)) exit(9);
  pthread_join(thread, 0);
}
static void handler(int number) {
  (void)number;
  work(1000);
  ++handled;
}

int main(int argc, char **argv) {
  int status = 0;
  pthread_t thread, many[300];
  pthread_barrier_t barrier;
  switch (argv[1][0]) {
    case 't': /* threads one after the other, each in the place of the last */
      clock_gettime(CLOCK_MONOTONIC, &now);
      for (int i = 0; i < 20; ++i) spawn(once, 100000);
      clock_gettime(CLOCK_MONOTONIC, &now);
      break;
    case 'c': /* no thread looks at the clock twice */
      for (int i = 0; i < 5; ++i) spawn(looks_at_the_clock, 0);
      break;
    case 's': /* a handler runs in the region */
      signal(SIGUSR1, handler);
      clock_gettime(CLOCK_MONOTONIC, &now);
      for (int i = 0; i < 50; ++i) raise(SIGUSR1), work(1000);
      clock_gettime(CLOCK_MONOTONIC, &now);
      return handled != 50;
    case 'f': /* a child process works too, and ends in three ways */
      clock_gettime(CLOCK_MONOTONIC, &now);
      for (int i = 0; i < 3; ++i) {
        pid_t child = fork();
        if (child == 0) {
          work(500000);
          spawn(once, 500000);
          clock_gettime(CLOCK_MONOTONIC, &now);
          clock_gettime(CLOCK_MONOTONIC, &now);
          if (i == 0) _exit(0);
          if (i == 1) exit(0);
          kill(getpid(), SIGKILL);
        }
        waitpid(child, &status, 0);
      }
      work(100000);
      clock_gettime(CLOCK_MONOTONIC, &now);
      break;
    case 'd': /* closes what it did not open, and writes where that was */
      for (int i = 3; i < 100; ++i) close(i);
      for (int i = 0; i < 40; ++i) fputs("mine\n", fopen("/dev/null", "w"));
      clock_gettime(CLOCK_MONOTONIC, &now);
      work(1000);
      clock_gettime(CLOCK_MONOTONIC, &now);
      break;
    case 'e': /* ends while others run */
      for (int i = 0; i < 3; ++i) pthread_create(&thread, 0, never_ends, 0);
      usleep(1000);
      clock_gettime(CLOCK_MONOTONIC, &now);
      clock_gettime(CLOCK_MONOTONIC, &now);
      _exit(0);
    case 'm': /* more threads at once than the plugin can hold */
      for (int i = 0; i < 300; ++i) pthread_create(&many[i], 0, never_ends, 0);
      return 0;
    case 'x': /* becomes another program */
      execl(argv[2], argv[2], (char *)0);
      return 7;
  }
  return 0;
}
"""


def test_threads_in_the_place_of_others(count, build) -> None:
    found = count(build(LIVES, kind="c"), "threads")
    expected = 20 * 2 * 100_000
    assert expected <= found.instructions <= expected + 20 * 8000
    assert len(found.recording.segments[1].threads) == 2  # one after the other


def test_the_clock_is_counted_for_each_thread(count, build) -> None:
    program = build(LIVES, kind="c")
    found = count(program, "clock")
    events = [(s.event, s.number) for s in found.recording.segments]
    assert events == [("clock", 1)] * 5 + [("exit", 0)]
    whole = count(program, "clock", region="whole")
    assert whole.instructions == pytest.approx(found.instructions, rel=1e-2)


def test_signal_handlers_count(count, build) -> None:
    found = count(build(LIVES, kind="c"), "signal")
    expected = 50 * 2 * 2000
    assert expected <= found.instructions <= expected + 50 * 300


def test_child_processes_do_not_count(count, build) -> None:
    found = count(build(LIVES, kind="c"), "fork")
    assert 200_000 <= found.instructions <= 210_000
    assert [s.event for s in found.recording.segments] == ["clock", "clock", "exit"]


def test_a_program_may_close_all_files(count, build) -> None:
    found = count(build(LIVES, kind="c"), "descriptors")
    assert 2000 <= found.instructions <= 2100


def test_the_end_while_others_run(count, build) -> None:
    program = build(LIVES, kind="c")
    for _ in range(3):
        found = count(program, "end", region="whole")
        assert found.instructions > 1000


READERS = """
    // a thread reads the data, then this one, which has waited for its end, does
    address x21, stack
    add x21, x21, #16, lsl #12
    address x22, tid
    mov w5, #1
    str w5, [x22]
    mark
    mov x8, #220
    movz x0, #0x0f00      // a thread that clears tid when it ends
    movk x0, #0x25, lsl #16
    mov x1, x21
    mov x4, x22
    svc #0
    cbz x0, 3f
    2: ldr w5, [x22]
    cbz w5, 3f
    mov x8, #98
    mov x0, x22
    mov x1, #0
    mov w2, w5
    mov x3, #0
    svc #0
    b 2b
    3: mov x20, x0
    mark
    address x1, data
    mov x2, #{}
    4: ldr x3, [x1], #64
    subs x2, x2, #1
    b.ne 4b
    mark
    mov x8, #93
    mov x0, #0
    svc #0
    .bss
    .balign 4096
    tid: .skip 4096
    .balign 1 << 20
    data: .skip 1 << 20
    stack: .skip 1 << 16
"""


@pytest.mark.parametrize("shared", [False, True])
def test_caches_of_a_core_and_of_all(count, shared: bool) -> None:
    """128 KB are in the second level of the thread that has read them."""
    lines = (128 << 10) // 64
    caches = ((32 << 10, 4, False), (512 << 10, 16, shared))
    found = count(READERS.format(lines), region="marks", caches=caches)
    reading = [
        (s.thread, s.threads[s.thread].misses)
        for s in found.recording.segments
        if s.event == "mark"
    ][1:]
    # each marks before it reads and after
    assert [thread for thread, _ in reading] == [1, 1, 0, 0]
    assert reading[1] == (1, (lines, lines))
    assert reading[3] == (0, (lines, 0 if shared else lines))
