/* Prints what each library answers; each has a digit of its own. */
#include <cmaked.h>
#include <crated.h>
#include <ffi.h>
#include <given.h>
#include <made.h>
#include <mesoned.h>
#include <plain.h>
#include <scripted.h>
#include <stdio.h>
#include <zlib.h>

int main(void)
{
	ffi_cif cif;
	int sum = plain_answer() + made_answer() + cmaked_answer() + mesoned_answer() +
		  scripted_answer() + crated_answer() + GIVEN_ANSWER +
		  ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 0, &ffi_type_void, NULL);
	printf("%s %d zlib %s\n", cmaked_name(), sum, zlibVersion());
	return 0;
}
