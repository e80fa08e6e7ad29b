/* A library of a header alone, made by somebody else. */
#define GIVEN_ANSWER 0
