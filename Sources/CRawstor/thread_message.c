#include "rawstor-support.h"

static _Thread_local char message[1024] = "no error";

char *rs_thread_message(void) { return message; }

size_t rs_message_bytes(void) { return sizeof message; }
