#pragma once

#include <stdexcept>
#include <string>

struct fault : std::runtime_error {
	fault(const char *file, int line, int worker)
	    : std::runtime_error(std::string(file) + ":" + std::to_string(line) + " worker " + std::to_string(worker)) {}
};

// Throws a fault of this worker.
[[noreturn]] void raise_fault(int worker);
