/* Claim: code compiled for AVX2 computes right, in main and beside threads that do the same. Where CPU or kernel do not
 * offer AVX2 (the C library asks CPUID and XGETBV), the program says so and ends well. */
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

enum { LANES = 4, STEPS = 200000 };

/* Two recurrences of four lanes each: one in doubles, one in integers. */
static long check(long seed)
{
    __m256d sum = _mm256_set_pd(seed + 3, seed + 2, seed + 1, seed);
    __m256i mixed = _mm256_set_epi64x(seed + 3, seed + 2, seed + 1, seed);
    double expected_sum[LANES], found_sum[LANES];
    long expected_mixed[LANES], found_mixed[LANES], wrong = 0;
    for (int lane = 0; lane < LANES; lane++)
        expected_sum[lane] = (double)(expected_mixed[lane] = seed + lane);
    for (int step = 0; step < STEPS; step++) {
        sum = _mm256_add_pd(_mm256_mul_pd(sum, _mm256_set1_pd(0.5)), _mm256_set1_pd(step));
        mixed = _mm256_xor_si256(_mm256_add_epi64(mixed, _mm256_slli_epi64(mixed, 2)), _mm256_set1_epi64x(step));
        for (int lane = 0; lane < LANES; lane++) {
            expected_sum[lane] = expected_sum[lane] * 0.5 + step;
            expected_mixed[lane] = (long)((unsigned long)expected_mixed[lane] * 5) ^ step;
        }
        if (step % 1000 == 0)
            sched_yield();
    }
    _mm256_storeu_pd(found_sum, sum);
    _mm256_storeu_si256((__m256i *)found_mixed, mixed);
    for (int lane = 0; lane < LANES; lane++)
        wrong += found_sum[lane] != expected_sum[lane] || found_mixed[lane] != expected_mixed[lane];
    return wrong;
}

static void *work(void *seed) { return (void *)check((long)seed); }

int main(void)
{
    if (!__builtin_cpu_supports("avx2")) {
        puts("OK avx2 not-offered");
        return 0;
    }
    pthread_t threads[2];
    for (long i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)(1000 * (i + 1)))) {
            puts("FAIL avx2 create");
            return 1;
        }
    long wrong = check(7);
    for (int i = 0; i < 2; i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (long)result;
    }
    printf(wrong ? "FAIL avx2 wrong=%ld\n" : "OK avx2 wrong=%ld\n", wrong);
    return wrong != 0;
}
