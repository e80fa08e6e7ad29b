#include <cmaked.h>

#include <iostream>
#include <map>
#include <optional>
#include <string>

int main()
{
	const std::map<std::string, std::optional<int>> answers{{cmaked_name(), cmaked_answer()}};
	for (const auto &[name, answer] : answers)
		std::cout << name << ' ' << answer.value_or(0) << '\n';
}
