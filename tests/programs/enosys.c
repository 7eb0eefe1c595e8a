/* Claim: a system call that does not exist is ENOSYS, and the program goes on. One has a name but is none for programs
 * (kexec_load; EPERM where it exists), the other has none. */
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NO_SUCH_CALL = 1000 };

int main(void)
{
    int wrong = 0;
    for (int i = 0; i < 3; i++)
        wrong += syscall(SYS_kexec_load, 0L, 0L, 0L, ~0UL) != -1 || (errno != ENOSYS && errno != EPERM && errno != EINVAL);
    for (int i = 0; i < 2; i++)
        wrong += syscall(NO_SUCH_CALL) != -1 || errno != ENOSYS;
    puts(wrong == 0 ? "OK enosys" : "FAIL enosys");
    return wrong != 0;
}
