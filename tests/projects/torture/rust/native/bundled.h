#ifndef BUNDLED_H
#define BUNDLED_H

#include <stdint.h>

/* CRC-32 as zlib computes it. */
uint32_t bundled_crc32(const uint8_t *bytes, uint32_t length);
/* What the compiler took __FILE__ to be. */
const char *bundled_file(void);

#endif
