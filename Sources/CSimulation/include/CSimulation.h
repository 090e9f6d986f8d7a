#ifndef RAWSTOR_SIMULATION_H
#define RAWSTOR_SIMULATION_H

#include <stddef.h>

/* Tasks that leave the simulated worlds would run on real threads at real times. While a thread is between enter and leave, such an
   enqueue (global executor, with or without a delay, main executor, dispatch queues) stops the process with a message. */
void rs_stray_install(void);
void rs_stray_enter(void);
void rs_stray_leave(void);

/* Zeroed memory that costs nothing until it is touched. NULL when there is none. */
void *rs_sim_map(size_t bytes);
void rs_sim_unmap(void *memory, size_t bytes);
/* Gives the pages back; they read as zeros afterwards. */
void rs_sim_forget(void *memory, size_t bytes);

/* Worker processes. Functions return a negative errno when they fail; rs_fork returns 0 in the worker, which dies with its parent. */
int rs_processors(void);
int rs_pipe(int *read_end, int *write_end);
int rs_fork(void);
long rs_read(int descriptor, void *bytes, size_t count);
void rs_wait_for_all(void);

#endif
