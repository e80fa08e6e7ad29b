#include "fault.h"

void raise_fault(int worker)
{
	throw fault(__FILE__, __LINE__, worker);
}
