#include <greet.h>
#include <stdio.h>

int extra(void);

int main(void) {
	printf("%s %d\n", greeting(), extra());
	return 0;
}
