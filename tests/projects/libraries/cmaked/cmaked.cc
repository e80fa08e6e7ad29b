#include "cmaked.h"

#include <string>
#include <string_view>

extern "C" {
#include <made.h>
}

const char *cmaked_name(void)
{
	static const std::string name{std::string_view{CMAKED_NAME}};
	return name.c_str();
}

int cmaked_answer(void)
{
	return 10 * made_answer();
}
