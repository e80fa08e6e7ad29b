#include "made.h"

#include <plain.h>

int made_answer(void)
{
	return 10 * plain_answer();
}
