/* Claim: writing to constant data is a SIGSEGV; the status is 139. What was written to stdout before is not lost. */
#include <stdio.h>

const int constants[] = {42, 43};

int main(int argc, char **argv)
{
    /* Chosen at run time, so that the compiler neither sees nor drops the store. */
    volatile int *target = (int *)&constants[argc % 2];
    printf("%s is about to write to a constant, %d\n", argc > 0 ? argv[0] : "segv", *target);
    fflush(stdout);
    *target = 1;
    puts("FAIL segv survived");
    return 0;
}
