/* Counts what an aarch64 program executes, for a model of the board's time.
 *
 * A plugin of qemu's code generator (user mode, plugin interface 1). It counts how
 * often each thread executes each translated block, and simulates the data caches on
 * the addresses that the program touches. Both are reported in segments: a segment ends
 * at a mark of the program (see `on_syscall`) and holds what was executed since the one
 * before.
 *
 *   qemu-aarch64 -plugin plugin.so,out=FILE,region=R,line=64,cache=BYTES:WAYS:SHARED...
 *
 *   region=whole   one segment
 *   region=clock:N segments at the calls of clock_gettime, up to call N+1 of a thread
 *   region=marks   segments at prctl(0x676f7378, id)
 *
 * Cache levels are given from the first on; each looks up the next one on a miss. They
 * are write-allocate and write-back with least-recently-used replacement.
 *
 * A thread that waits for others spins: it looks, yields the processor, looks again.
 * How often depends on the host, not on the program, so blocks between two yields of
 * one thread that lie close together are taken out of its counts again.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The part of qemu's plugin interface 1 that is used here. Debian ships no header. */
#define EXPORT __attribute__((visibility("default")))
typedef uint64_t plugin_id;
typedef uint32_t meminfo;
typedef struct {
  const char *target_name;
  struct {
    int min, cur;
  } version;
  bool system_emulation;
  union {
    struct {
      int smp_vcpus, max_vcpus;
    } system;
  };
} plugin_info;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS = 0, READ_AND_WRITE = 3 };
typedef void (*on_translate_fn)(plugin_id, struct qemu_plugin_tb *);
typedef void (*on_execute_fn)(unsigned, void *);
typedef void (*on_memory_fn)(unsigned, meminfo, uint64_t, void *);
typedef void (*on_syscall_fn)(plugin_id, unsigned, int64_t, uint64_t, uint64_t,
                              uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                              uint64_t);
typedef void (*on_exit_fn)(plugin_id, void *);
typedef void (*on_thread_fn)(plugin_id, unsigned);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_translate_fn);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_execute_fn, int,
                                          void *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, on_execute_fn,
                                            int, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, on_memory_fn, int, int,
                                      void *);
void qemu_plugin_register_vcpu_init_cb(plugin_id, on_thread_fn);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, on_syscall_fn);
void qemu_plugin_register_atexit_cb(plugin_id, on_exit_fn, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
bool qemu_plugin_mem_is_store(meminfo);
unsigned qemu_plugin_mem_size_shift(meminfo);
EXPORT int qemu_plugin_version = 1;

/* Numbers of aarch64 Linux (asm-generic/unistd.h). */
enum { SYS_FUTEX = 98, SYS_NANOSLEEP = 101, SYS_CLOCK_GETTIME = 113 };
enum { SYS_CLOCK_NANOSLEEP = 115, SYS_SCHED_YIELD = 124, SYS_PRCTL = 167 };
enum { FUTEX_WAIT = 0, FUTEX_WAIT_BITSET = 9 };
enum { MARK = 0x676f7378 };
enum { HINT_YIELD = 0xd503203f, HINT_WFE = 0xd503205f };
enum { DC_ZVA = 0xd50b7420, REGISTER = 0x1f }; /* and the bits that name its register */

enum { MAX_THREADS = 256, MAX_LEVELS = 4, MAX_INSNS = 4096 };
/* Threads that work at the same time share a cache, so none may run far ahead of another:
 * by so many instructions, checked as often. One that does not move for so long (in
 * nanoseconds of this machine) is not waited for: it may be blocked. */
enum { PACE = 20000, PATIENCE = 20000000 };
/* Blocks between two yields up to which they count as one turn of a waiting loop. */
enum { SPIN_BLOCKS = 64 };

typedef struct {
  uint32_t index, insns;
  uint64_t hash;
  bool spins; /* has a hint that it waits for others */
  uint32_t code[];
} Block;

typedef struct {
  uint64_t *tags; /* sets x ways, latest first; line number + 1 << 1 | dirty, 0 empty */
  pthread_mutex_t lock;
} Cache;

typedef struct {
  uint64_t sets, last_set; /* sets is a power of two */
  int ways;
  bool shared;
  Cache common;
} Level;

typedef struct {
  uint64_t *counts, *reported; /* by index of block */
  size_t capacity;
  uint32_t recent[SPIN_BLOCKS]; /* blocks since the last yield */
  unsigned since_yield;
  unsigned clock_calls;
  uint64_t last_line; /* of the last access: << 1 | dirty */
  uint64_t misses[MAX_LEVELS], reported_misses[MAX_LEVELS];
  uint64_t writebacks, reported_writebacks;
  Cache own[MAX_LEVELS];
  uint64_t paced; /* time at which it last looked after the others */
  _Atomic uint64_t time; /* instructions of its work */
  _Atomic bool works;    /* is neither waiting nor in a system call */
} Thread;

static Level levels[MAX_LEVELS];
static int level_count, line_shift = 6;
static enum { WHOLE, CLOCK, MARKS } region = WHOLE;
static unsigned clock_pairs = 1; /* the region opens at this call of a thread */
static bool region_found;
static Thread *_Atomic threads[MAX_THREADS];
static _Atomic unsigned thread_count; /* highest index in use, and one */
static Block **blocks, **table;
static size_t block_count, block_room, table_size;
static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;
/* Held in memory until the end: a program may close files that it did not open. */
static FILE *out;
static char *out_path, *out_text;
static size_t out_length;
static pid_t owner; /* a process that this one forks is not counted */

static void *reserve(void *old, size_t bytes) {
  void *memory = realloc(old, bytes);
  if (memory == NULL) {
    fprintf(stderr, "gos_fx plugin: out of memory\n");
    _exit(1);
  }
  return memory;
}

static uint64_t *new_tags(const Level *level) {
  size_t count = level->sets * (size_t)level->ways;
  uint64_t *tags = reserve(NULL, count * sizeof *tags);
  memset(tags, 0, count * sizeof *tags);
  return tags;
}

static Thread *new_thread(unsigned index) {
  if (index >= MAX_THREADS) {
    fprintf(stderr, "gos_fx plugin: more than %d threads\n", MAX_THREADS);
    _exit(1);
  }
  Thread *thread = reserve(NULL, sizeof *thread);
  memset(thread, 0, sizeof *thread);
  for (int i = 0; i < level_count; ++i) {
    if (!levels[i].shared) thread->own[i].tags = new_tags(&levels[i]);
  }
  atomic_store_explicit(&threads[index], thread, memory_order_release);
  unsigned count = atomic_load(&thread_count);
  while (count <= index &&
         !atomic_compare_exchange_weak(&thread_count, &count, index + 1)) {
  }
  return thread;
}

static inline Thread *thread_of(unsigned index) {
  if (__builtin_expect(index < MAX_THREADS, 1)) {
    Thread *thread = atomic_load_explicit(&threads[index], memory_order_relaxed);
    if (__builtin_expect(thread != NULL, 1)) return thread;
  }
  return new_thread(index);
}

/* Caches ------------------------------------------------------------------------- */

/* Puts the line first in its set; what falls out is handed to the next level. */
static inline bool touch(const Level *level, uint64_t *tags, uint64_t line, bool store,
                  uint64_t *evicted) {
  uint64_t *set = tags + (line & level->last_set) * (size_t)level->ways;
  uint64_t wanted = (line + 1) << 1; /* 0 means empty */
  uint64_t moved = set[0];
  if ((moved & ~1ull) == wanted) {
    set[0] = moved | store;
    return true;
  }
  for (int way = 1; way < level->ways; ++way) {
    uint64_t entry = set[way];
    set[way] = moved;
    moved = entry;
    if ((entry & ~1ull) == wanted) {
      set[0] = entry | store;
      return true;
    }
  }
  set[0] = wanted | store;
  *evicted = moved;
  return false;
}

/* `fetch` is false for a line written back from the level before: all its bytes are
 * there, so a miss brings nothing in. */
static void access_level(Thread *thread, int i, uint64_t line, bool store, bool fetch) {
  if (i == level_count) {
    if (!fetch) ++thread->writebacks;
    return;
  }
  Level *level = &levels[i];
  uint64_t evicted = 0;
  bool hit;
  if (level->shared) {
    pthread_mutex_lock(&level->common.lock);
    hit = touch(level, level->common.tags, line, store, &evicted);
    pthread_mutex_unlock(&level->common.lock);
  } else {
    hit = touch(level, thread->own[i].tags, line, store, &evicted);
  }
  if (hit) return;
  if (fetch) {
    ++thread->misses[i];
    access_level(thread, i + 1, line, false, true);
  }
  if (evicted & 1) access_level(thread, i + 1, (evicted >> 1) - 1, true, false);
}

static inline void access_line(Thread *thread, uint64_t line, bool store, bool fetch) {
  uint64_t access = line << 1 | store;
  /* Again the line of the last access: it is first in its set and stays there. */
  if (access == thread->last_line || (access | 1) == thread->last_line) return;
  thread->last_line = access;
  if (level_count) access_level(thread, 0, line, store, fetch);
}

/* Of a 128-bit access qemu reports two halves. */
static void on_memory(unsigned index, meminfo info, uint64_t address, void *data) {
  (void)data;
  Thread *thread = thread_of(index);
  bool store = qemu_plugin_mem_is_store(info);
  uint64_t line = address >> line_shift;
  access_line(thread, line, store, true);
  uint64_t left = ((line + 1) << line_shift) - address;
  if (__builtin_expect(left < 8, 0) && left < 1u << qemu_plugin_mem_size_shift(info)) {
    access_line(thread, line + 1, store, true);
  }
}

/* DC ZVA makes a line zero without fetching it. qemu does not report this access, and
 * its interface shows no registers; but the instruction is the loop of memset, which
 * goes upwards from the line that it stored to last. */
static void on_zero(unsigned index, void *data) {
  (void)data;
  Thread *thread = thread_of(index);
  access_line(thread, (thread->last_line >> 1) + 1, true, false);
}

/* Blocks ------------------------------------------------------------------------- */

static void grow(Thread *thread, uint32_t index) {
  size_t capacity = thread->capacity ? 2 * thread->capacity : 4096;
  while (capacity <= index) capacity *= 2;
  size_t added = (capacity - thread->capacity) * sizeof(uint64_t);
  pthread_mutex_lock(&report_lock);
  thread->counts = reserve(thread->counts, capacity * sizeof(uint64_t));
  thread->reported = reserve(thread->reported, capacity * sizeof(uint64_t));
  memset(thread->counts + thread->capacity, 0, added);
  memset(thread->reported + thread->capacity, 0, added);
  thread->capacity = capacity;
  pthread_mutex_unlock(&report_lock);
}

/* Pace --------------------------------------------------------------------------- */

static Thread *last_of_others(const Thread *thread) {
  Thread *last = NULL;
  for (unsigned i = 0; i < atomic_load(&thread_count); ++i) {
    Thread *other = atomic_load(&threads[i]);
    if (other == NULL || other == thread || !atomic_load(&other->works)) continue;
    if (last == NULL || atomic_load(&other->time) < atomic_load(&last->time)) {
      last = other;
    }
  }
  return last;
}

static void begin_to_work(Thread *thread) {
  Thread *last = last_of_others(thread);
  uint64_t now = last == NULL ? 0 : atomic_load(&last->time);
  if (now > atomic_load(&thread->time)) atomic_store(&thread->time, now);
  thread->paced = atomic_load(&thread->time);
  atomic_store(&thread->works, true);
}

static void keep_pace(Thread *thread) {
  uint64_t time = atomic_load(&thread->time);
  thread->paced = time;
  Thread *last = last_of_others(thread);
  if (last == NULL || time <= atomic_load(&last->time) + PACE) return;
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    sched_yield();
    last = last_of_others(thread);
    if (last == NULL || time <= atomic_load(&last->time) + PACE) return;
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec <
           PATIENCE);
  atomic_store(&last->works, false);
}

static void on_yield(Thread *thread) {
  atomic_store_explicit(&thread->works, false, memory_order_relaxed);
  if (thread->since_yield <= SPIN_BLOCKS) {
    for (unsigned i = 0; i < thread->since_yield; ++i) {
      --thread->counts[thread->recent[i]];
    }
  }
  thread->since_yield = 0;
}

static void on_execute(unsigned index, void *data) {
  const Block *block = data;
  Thread *thread = thread_of(index);
  if (__builtin_expect(block->index >= thread->capacity, 0)) grow(thread, block->index);
  ++thread->counts[block->index];
  if (thread->since_yield < SPIN_BLOCKS) {
    thread->recent[thread->since_yield] = block->index;
  }
  uint64_t time = atomic_load_explicit(&thread->time, memory_order_relaxed);
  atomic_store_explicit(&thread->time, time + block->insns, memory_order_relaxed);
  if (thread->since_yield <= SPIN_BLOCKS) {
    ++thread->since_yield;
  } else if (!atomic_load_explicit(&thread->works, memory_order_relaxed)) {
    begin_to_work(thread);
  } else if (time - thread->paced >= PACE) {
    keep_pace(thread);
  }
  if (__builtin_expect(block->spins, 0)) on_yield(thread);
}

static uint64_t hash_of(const uint32_t *code, size_t count) {
  uint64_t hash = 14695981039346656037ull; /* FNV-1a, by instruction */
  for (size_t i = 0; i < count; ++i) hash = (hash ^ code[i]) * 1099511628211ull;
  return hash;
}

static void insert(Block *block) {
  size_t at = block->hash & (table_size - 1);
  while (table[at] != NULL) at = (at + 1) & (table_size - 1);
  table[at] = block;
}

static void grow_table(void) {
  table_size = table_size ? 2 * table_size : 16384;
  table = reserve(table, table_size * sizeof(Block *));
  memset(table, 0, table_size * sizeof(Block *));
  for (size_t i = 0; i < block_count; ++i) insert(blocks[i]);
}

/* The block of this code, wherever it lies: addresses differ from run to run. */
static Block *block_of(const uint32_t *code, size_t count) {
  uint64_t hash = hash_of(code, count);
  size_t bytes = count * sizeof *code;
  pthread_mutex_lock(&blocks_lock);
  if (2 * block_count >= table_size) grow_table();
  size_t at = hash & (table_size - 1);
  for (; table[at] != NULL; at = (at + 1) & (table_size - 1)) {
    Block *found = table[at];
    if (found->hash == hash && found->insns == count &&
        memcmp(found->code, code, bytes) == 0) {
      pthread_mutex_unlock(&blocks_lock);
      return found;
    }
  }
  Block *block = reserve(NULL, sizeof *block + bytes);
  block->index = (uint32_t)block_count;
  block->insns = (uint32_t)count;
  block->hash = hash;
  block->spins = false;
  for (size_t i = 0; i < count; ++i) {
    block->spins |= code[i] == HINT_YIELD || code[i] == HINT_WFE;
  }
  memcpy(block->code, code, bytes);
  if (block_count == block_room) {
    block_room = block_room ? 2 * block_room : 8192;
    blocks = reserve(blocks, block_room * sizeof(Block *));
  }
  blocks[block_count++] = block;
  table[at] = block;
  pthread_mutex_unlock(&blocks_lock);
  return block;
}

static void on_translate(plugin_id id, struct qemu_plugin_tb *tb) {
  (void)id;
  uint32_t code[MAX_INSNS];
  size_t count = qemu_plugin_tb_n_insns(tb);
  if (count > MAX_INSNS) {
    fprintf(stderr, "gos_fx plugin: a block of %zu instructions\n", count);
    _exit(1);
  }
  for (size_t i = 0; i < count; ++i) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    memcpy(&code[i], qemu_plugin_insn_data(insn), sizeof code[i]);
    /* Bits 27 and 25 of an A64 instruction: 1 and 0 in loads and stores alone. */
    if ((code[i] >> 25 & 5) == 4) {
      qemu_plugin_register_vcpu_mem_cb(insn, on_memory, NO_REGISTERS, READ_AND_WRITE,
                                       NULL);
    }
    if ((code[i] & ~REGISTER) == DC_ZVA) {
      qemu_plugin_register_vcpu_insn_exec_cb(insn, on_zero, NO_REGISTERS, NULL);
    }
  }
  Block *block = block_of(code, count);
  qemu_plugin_register_vcpu_tb_exec_cb(tb, on_execute, NO_REGISTERS, block);
}

/* Reports ------------------------------------------------------------------------ */

/* What has been added since the last report. The thread may be adding to it. */
static uint64_t fresh(const uint64_t *count, uint64_t *reported) {
  uint64_t now = *(const volatile uint64_t *)count, before = *reported;
  *reported = now;
  return now - before;
}

/* One line "S opened-by thread id", then for each thread that did something since the
 * last report "T thread writebacks misses..." and "C block count" for its blocks. */
static void write_segment(const char *name, unsigned thread_index, uint64_t id) {
  fprintf(out, "S %s %u %llu\n", name, thread_index, (unsigned long long)id);
  for (unsigned t = 0; t < MAX_THREADS; ++t) {
    Thread *thread = atomic_load(&threads[t]);
    if (thread == NULL) continue;
    uint64_t lines = fresh(&thread->writebacks, &thread->reported_writebacks);
    fprintf(out, "T %u %llu", t, (unsigned long long)lines);
    for (int i = 0; i < level_count; ++i) {
      uint64_t misses = fresh(&thread->misses[i], &thread->reported_misses[i]);
      fprintf(out, " %llu", (unsigned long long)misses);
    }
    fputc('\n', out);
    for (size_t b = 0; b < thread->capacity; ++b) {
      uint64_t count = fresh(&thread->counts[b], &thread->reported[b]);
      if (count) fprintf(out, "C %zu %lld\n", b, (long long)count);
    }
  }
}

static void report(const char *name, unsigned thread_index, uint64_t id) {
  if (getpid() != owner) return;
  pthread_mutex_lock(&report_lock);
  if (out != NULL) write_segment(name, thread_index, id);
  pthread_mutex_unlock(&report_lock);
}

/* A mark ends the segment before it; the line of the segment says what ended it. */
static void on_syscall(plugin_id id, unsigned index, int64_t number, uint64_t a1,
                       uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                       uint64_t a7, uint64_t a8) {
  (void)id, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  Thread *thread = thread_of(index);
  unsigned operation = a2 & 0x7f; /* of a futex: without its flags */
  bool waits = number == SYS_FUTEX
                   ? operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET
                   : number == SYS_SCHED_YIELD || number == SYS_NANOSLEEP ||
                         number == SYS_CLOCK_NANOSLEEP;
  atomic_store(&thread->works, false);
  if (waits) on_yield(thread);
  if (number == SYS_CLOCK_GETTIME && region == CLOCK && !region_found) {
    unsigned call = ++thread->clock_calls;
    if (call >= clock_pairs) report("clock", index, call);
    region_found = call == clock_pairs + 1;
  }
  if (number == SYS_PRCTL && a1 == MARK && region == MARKS) report("mark", index, a2);
}

/* Of a thread that begins: its index may have been that of one that has ended. */
static void on_thread(plugin_id id, unsigned index) {
  (void)id;
  if (index >= MAX_THREADS) return;
  Thread *thread = atomic_load(&threads[index]);
  if (thread == NULL) return;
  thread->clock_calls = 0;
  thread->since_yield = 0;
}

static void write_blocks(void) {
  pthread_mutex_lock(&blocks_lock);
  for (size_t b = 0; b < block_count; ++b) {
    fprintf(out, "B %zu ", b);
    for (uint32_t i = 0; i < blocks[b]->insns; ++i) {
      fprintf(out, "%08x", __builtin_bswap32(blocks[b]->code[i]));
    }
    fputc('\n', out);
  }
  pthread_mutex_unlock(&blocks_lock);
}

/* Other threads may still run. */
static void on_end(plugin_id id, void *data) {
  (void)id, (void)data;
  if (getpid() != owner) return;
  report("exit", 0, 0);
  pthread_mutex_lock(&report_lock);
  write_blocks();
  fputs("END\n", out);
  FILE *file = fclose(out) == 0 ? fopen(out_path, "w") : NULL;
  if (file == NULL || fwrite(out_text, 1, out_length, file) != out_length ||
      fclose(file) != 0) {
    fprintf(stderr, "gos_fx plugin: cannot write %s\n", out_path);
  }
  out = NULL;
  pthread_mutex_unlock(&report_lock);
}

/* A forked process starts with all locks as they were: take the one that may be held
 * outside of translated code, where qemu does not wait for it before it forks. */
static void before_fork(void) { pthread_mutex_lock(&report_lock); }
static void after_fork(void) { pthread_mutex_unlock(&report_lock); }

static bool add_level(const char *text) {
  unsigned long long bytes;
  int ways, shared;
  if (level_count == MAX_LEVELS) return false;
  if (sscanf(text, "%llu:%d:%d", &bytes, &ways, &shared) != 3) return false;
  if (ways < 1 || bytes % ((uint64_t)ways << line_shift)) return false;
  Level *level = &levels[level_count++];
  level->ways = ways;
  level->shared = shared != 0;
  level->sets = bytes / ((uint64_t)ways << line_shift);
  level->last_set = level->sets - 1;
  if (level->sets == 0 || level->sets & level->last_set) return false;
  if (level->shared) {
    level->common.tags = new_tags(level);
    pthread_mutex_init(&level->common.lock, NULL);
  }
  return true;
}

static bool option(const char *text) {
  if (strncmp(text, "out=", 4) == 0) return (out_path = strdup(text + 4)) != NULL;
  if (strncmp(text, "cache=", 6) == 0) return add_level(text + 6);
  if (strcmp(text, "region=whole") == 0) return region = WHOLE, true;
  if (strcmp(text, "region=marks") == 0) return region = MARKS, true;
  if (sscanf(text, "region=clock:%u", &clock_pairs) == 1) {
    return region = CLOCK, clock_pairs >= 1;
  }
  unsigned line;
  if (sscanf(text, "line=%u", &line) == 1 && line && (line & (line - 1)) == 0) {
    line_shift = __builtin_ctz(line);
    return true;
  }
  return false;
}

EXPORT int qemu_plugin_install(plugin_id id, const plugin_info *info, int argc,
                               char **argv) {
  if (info->system_emulation || strcmp(info->target_name, "aarch64") != 0 ||
      info->version.min > 1 || info->version.cur < 1) {
    fprintf(stderr, "gos_fx plugin: needs qemu-aarch64 with plugin interface 1\n");
    return -1;
  }
  owner = getpid();
  out = open_memstream(&out_text, &out_length);
  for (int i = 0; i < argc; ++i) {
    if (!option(argv[i])) {
      fprintf(stderr, "gos_fx plugin: bad option %s\n", argv[i]);
      return -1;
    }
  }
  if (out == NULL || out_path == NULL) {
    fprintf(stderr, "gos_fx plugin: out=FILE is missing\n");
    return -1;
  }
  pthread_atfork(before_fork, after_fork, after_fork);
  qemu_plugin_register_vcpu_init_cb(id, on_thread);
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  qemu_plugin_register_atexit_cb(id, on_end, NULL);
  return 0;
}
