/* Claim: floating point works as the C library uses it: printf and strtod of doubles and long doubles (x87), libm, rounding
 * modes. The texts are exact; every C library must print them like that. */
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int wrong;

static void expect(const char *what, const char *found, const char *expected)
{
    if (strcmp(found, expected)) {
        printf("BROKEN %s: %s instead of %s\n", what, found, expected);
        wrong++;
    }
}

static void print_and_compare(const char *format, double value, const char *expected)
{
    char text[400];
    snprintf(text, sizeof text, format, value);
    expect(format, text, expected);
}

int main(void)
{
    print_and_compare("%.17g", 0.1, "0.10000000000000001");
    print_and_compare("%g", 1e100, "1e+100");
    print_and_compare("%.3f", 2.0 / 3.0, "0.667");
    print_and_compare("%a", 1.5, "0x1.8p+0");
    print_and_compare("%.0f", 1e22, "10000000000000000000000");
    print_and_compare("%.12f", sqrt(2.0), "1.414213562373");
    print_and_compare("%.10f", sin(1.0) * sin(1.0) + cos(1.0) * cos(1.0), "1.0000000000");
    print_and_compare("%.10f", exp(log(10.0)), "10.0000000000");
    print_and_compare("%g", -1.0 / INFINITY, "-0");
    print_and_compare("%g", nan(""), "nan");

    char text[80];
    snprintf(text, sizeof text, "%.18Lg", 1.0L / 3.0L);
    expect("long double", text, "0.333333333333333333");
    for (int i = -300; i <= 300; i++) {
        double value = ldexp(1.0 + i / 1000.0, i);
        snprintf(text, sizeof text, "%.17g", value);
        if (strtod(text, NULL) != value) {
            expect("a double there and back", text, "itself");
        }
    }
    volatile double one = 1.0, three = 3.0;
    fesetround(FE_UPWARD);
    volatile double up = one / three;
    fesetround(FE_DOWNWARD);
    volatile double down = one / three;
    fesetround(FE_TONEAREST);
    expect("rounding modes", up > down ? "apart" : "equal", "apart");
    puts(wrong ? "FAIL doubles" : "OK doubles");
    return wrong != 0;
}
