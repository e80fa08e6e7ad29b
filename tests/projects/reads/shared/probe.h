#define PROBE "probe 1"
