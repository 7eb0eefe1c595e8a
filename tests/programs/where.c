/* Prints where it stands: position-independent programs stand wherever the kernel puts them. */
#include <stdio.h>

static int data = 7;

int main(void)
{
    /* The program has relocated itself if a pointer that was initialised statically points to what it should. */
    static int *pointer = &data;
    printf("main %p\n", (void *)main);
    puts(pointer == &data && *pointer == 7 ? "OK where" : "FAIL where: not relocated");
    return *pointer != 7;
}
