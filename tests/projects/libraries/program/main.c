/* Prints what each library answers; each has a digit of its own. */
#include <cmaked.h>
#include <crated.h>
#include <made.h>
#include <mesoned.h>
#include <plain.h>
#include <scripted.h>
#include <stdio.h>
#include <zlib.h>

int main(void)
{
	int sum = plain_answer() + made_answer() + cmaked_answer() + mesoned_answer() +
		  scripted_answer() + crated_answer();
	printf("%s %d zlib %s\n", cmaked_name(), sum, zlibVersion());
	return 0;
}
