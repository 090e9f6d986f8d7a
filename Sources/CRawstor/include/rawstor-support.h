/* What the library's Swift side needs from C. Not part of the public interface, never installed. */
#ifndef RAWSTOR_SUPPORT_H
#define RAWSTOR_SUPPORT_H

#include <stddef.h>

/* This thread's text for rawstor_error_message(NULL), of rs_message_bytes. C because Swift has no thread-local storage without a
 * destructor, and one of those in a library that can be unloaded is a crash at the thread's end. */
char *rs_thread_message(void);
size_t rs_message_bytes(void);

#endif
