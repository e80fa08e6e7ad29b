#include <plain.h>

int plain_answer(void)
{
	return 1;
}
