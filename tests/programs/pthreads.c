/* Claim: mutexes, condition variables, barriers, once, thread-local storage of both kinds and join work, with malloc used
 * in all threads at once. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, TURNS = 2000, BLOCKS = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_barrier_t barrier;
static pthread_key_t key;
static long turn, initialised, destroyed, wrong;
static __thread long mine = 41;

static void initialise(void) { initialised++; }

static void destroy(void *value)
{
    pthread_mutex_lock(&lock);
    destroyed += (long)value;
    pthread_mutex_unlock(&lock);
}

static void complain(const char *what)
{
    pthread_mutex_lock(&lock);
    printf("BROKEN %s\n", what);
    wrong++;
    pthread_mutex_unlock(&lock);
}

/* Blocks of many sizes, each filled with its own byte and checked before it is freed. */
static void use_malloc(unsigned seed)
{
    unsigned char *blocks[BLOCKS] = {0};
    size_t sizes[BLOCKS] = {0};
    for (int i = 0; i < TURNS; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned slot = seed >> 16 & (BLOCKS - 1);
        for (size_t n = 0; n < sizes[slot]; n++)
            if (blocks[slot][n] != (unsigned char)slot) {
                complain("a malloc'd block changed");
                break;
            }
        free(blocks[slot]);
        sizes[slot] = 1 + (seed >> 8) % 3000;
        blocks[slot] = malloc(sizes[slot]);
        if (!blocks[slot]) {
            complain("malloc refused");
            sizes[slot] = 0;
            continue;
        }
        memset(blocks[slot], (int)slot, sizes[slot]);
    }
    for (int slot = 0; slot < BLOCKS; slot++)
        free(blocks[slot]);
}

static void *work(void *argument)
{
    long me = (long)argument;
    pthread_once(&once, initialise);
    pthread_setspecific(key, (void *)(me + 1));
    if (mine != 41)
        complain("a thread-local did not start fresh");
    mine = me;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < TURNS; i++) {
        pthread_mutex_lock(&lock);
        while (turn % THREADS != me)
            pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    use_malloc((unsigned)me + 1);
    if (mine != me)
        complain("a thread-local was changed by another thread");
    return (void *)(me * me);
}

int main(void)
{
    pthread_t threads[THREADS];
    long squares = 0;
    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_key_create(&key, destroy);
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i)) {
            puts("FAIL pthreads create");
            return 1;
        }
    for (int i = 0; i < THREADS; i++) {
        void *result;
        if (pthread_join(threads[i], &result)) {
            puts("FAIL pthreads join");
            return 1;
        }
        squares += (long)result;
    }
    if (turn != (long)THREADS * TURNS || initialised != 1 || destroyed != 1 + 2 + 3 + 4 || squares != 0 + 1 + 4 + 9)
        complain("the sums");
    if (mine != 41)
        complain("main's thread-local");
    puts(wrong ? "FAIL pthreads" : "OK pthreads");
    return wrong != 0;
}
