/* Claim: a static C program starts, uses its heap and environment, prints and ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char *copy = strdup(argc > 0 ? argv[0] : "");
    if (!copy)
        return 1;
    printf("hello from %s, pid %s, page size %ld\n", copy, getpid() > 0 ? "set" : "not set", sysconf(_SC_PAGESIZE));
    free(copy);
    puts("OK hello-c");
    return 0;
}
