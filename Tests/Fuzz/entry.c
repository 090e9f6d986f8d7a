/* libFuzzer's way in. TARGET is a function of the Swift module Fuzzing. */
#include <stddef.h>
#include <stdint.h>

int TARGET(const uint8_t *bytes, intptr_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) { return TARGET(bytes, (intptr_t)count); }
