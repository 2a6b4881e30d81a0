/* Multiply-adds per second of one core: sixteen sums that do not wait for each other.

   fma_roof SECONDS   prints the best rate of a number of rounds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SUMS = 16, TURNS = 1 << 16 };
typedef float vector __attribute__((vector_size(LANES * 4)));

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char **argv) {
  double limit = argc > 1 ? atof(argv[1]) : 1.0, best = 0, start = now();
  vector sums[SUMS], factor, term;
  for (int i = 0; i < LANES; ++i) factor[i] = 0.999f, term[i] = 0.001f * argc;
  for (int j = 0; j < SUMS; ++j) sums[j] = term * (float)j;
  while (now() - start < limit) {
    double before = now();
    for (int turn = 0; turn < TURNS; ++turn) {
#pragma clang loop unroll(full)
      for (int j = 0; j < SUMS; ++j) sums[j] = sums[j] * factor + term;
#pragma clang loop unroll(full)
      for (int j = 0; j < SUMS; ++j) __asm__ volatile("" : "+v"(sums[j]));
    }
    double rate = (double)TURNS * SUMS * LANES / (now() - before);
    if (rate > best) best = rate;
  }
  float used = 0;
  for (int j = 0; j < SUMS; ++j) used += sums[j][0];
  printf("%.6e\n", best + 0 * used);
  return 0;
}
