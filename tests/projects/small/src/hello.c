#include <stdio.h>
#include <string.h>

int main(int count, char **arguments)
{
	if (count > 1 && strcmp(arguments[1], "--version") == 0)
		puts("hello 0.1.0");
	else
		puts("hello");
	return 0;
}
