#include <stdio.h>

#include "../shared/probe.h"

int main(void) {
    puts(PROBE);
    return 0;
}
