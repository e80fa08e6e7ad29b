// Prints what a C++ build may leak, and needs threads and unwinding to do it.
#include <array>
#include <exception>
#include <iostream>
#include <optional>
#include <string_view>
#include <thread>

#include "fault.h"

int main(int count, char **arguments)
{
	std::cout << "torture-cxx 0.1.0\n";
	if (count > 1 && std::string_view(arguments[1]) == "--version")
		return 0;

	constexpr int workers = 4;
	std::array<std::optional<std::string>, workers> caught;
	std::array<std::thread, workers> threads;
	for (int worker = 0; worker < workers; worker++)
		threads[worker] = std::thread([worker, &caught] {
			try {
				raise_fault(worker);
			} catch (const std::exception &error) {
				caught[worker] = error.what();
			}
		});
	for (auto &thread : threads)
		thread.join();
	for (const auto &message : caught)
		std::cout << "caught at " << message.value_or("nothing") << '\n';
	std::cout << "C++ file " << __FILE__ << '\n';
	return 0;
}
