/* Claim: the heap keeps what is put into it: thousands of blocks of all sizes, grown and shrunk by realloc, some far beyond
 * the size from which malloc maps instead of moving the break. The argument is the most MiB held at once (default 8). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 512, STEPS = 20000 };

static struct block { uint64_t *words; size_t count, stamp; } blocks[BLOCKS];
static uint64_t state = 1;
static size_t held;

static uint64_t random_word(void)
{
    uint64_t x = state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Mostly small, some of more than a page, one in twenty up to 2 MiB. */
static size_t random_count(void)
{
    unsigned bits = 3 + random_word() % 8;
    if (random_word() % 20 == 0)
        bits = 13 + random_word() % 6;
    return 1 + random_word() % (1ul << bits);
}

static int is_intact(const struct block *block, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (block->words[i] != block->stamp * 31 + i)
            return 0;
    return 1;
}

static int resize(struct block *block, size_t count, size_t stamp)
{
    size_t kept = count < block->count ? count : block->count;
    uint64_t *words = realloc(block->words, count * sizeof *words);
    if (!words) {
        puts("FAIL malloc: refused");
        return 0;
    }
    held += (count - block->count) * sizeof *words;
    block->words = words;
    block->count = count;
    if (!is_intact(block, kept)) {
        puts("FAIL malloc: contents lost by realloc");
        return 0;
    }
    block->stamp = stamp;
    for (size_t i = 0; i < count; i++)
        words[i] = stamp * 31 + i;
    return 1;
}

static void release(struct block *block)
{
    free(block->words);
    held -= block->count * sizeof *block->words;
    *block = (struct block){0};
}

int main(int argc, char **argv)
{
    size_t limit = (argc > 1 ? strtoul(argv[1], NULL, 10) : 8) << 20, most = 0;
    for (size_t step = 1; step <= STEPS; step++) {
        struct block *block = &blocks[random_word() % BLOCKS];
        if (!is_intact(block, block->count)) {
            puts("FAIL malloc: contents changed");
            return 1;
        }
        if (block->words && (held > limit || random_word() % 4 == 0))
            release(block);
        else if (!resize(block, random_count(), step))
            return 1;
        while (held > limit)
            release(&blocks[random_word() % BLOCKS]);
        most = held > most ? held : most;
    }
    /* One block that doubles up to the limit, as a growing array does. */
    for (int i = 0; i < BLOCKS; i++)
        release(&blocks[i]);
    for (size_t count = 16; count * sizeof(uint64_t) <= limit; count *= 2)
        if (!resize(&blocks[0], count, count))
            return 1;
    uint64_t *zeroes = calloc(limit / sizeof *zeroes, sizeof *zeroes);
    for (size_t i = 0; zeroes && i < limit / sizeof *zeroes; i++)
        if (zeroes[i]) {
            puts("FAIL malloc: calloc gave a word that is not zero");
            return 1;
        }
    if (!zeroes) {
        puts("FAIL malloc: calloc refused");
        return 1;
    }
    printf("OK malloc steps=%d most_bytes=%zu\n", STEPS, most);
    return 0;
}
