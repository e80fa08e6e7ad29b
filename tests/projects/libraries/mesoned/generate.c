#include <stdio.h>

int main(int argc, char **argv)
{
	FILE *file = argc == 2 ? fopen(argv[1], "w") : NULL;
	if (file == NULL) return 1;
	fputs("#define ANSWER 4000\n", file);
	return fclose(file);
}
