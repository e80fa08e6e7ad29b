#include "bundled.h"

uint32_t bundled_crc32(const uint8_t *bytes, uint32_t length)
{
	uint32_t crc = UINT32_MAX;
	for (uint32_t i = 0; i < length; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (UINT32_C(0xedb88320) & (0 - (crc & 1)));
	}
	return ~crc;
}

const char *bundled_file(void)
{
	return __FILE__;
}
