/* usage: volume create URL BYTES | remove URL; what the fio tests need of the catalogue. */
#include <rawstor.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    rawstor_context *context;
    int result = rawstor_context_create(NULL, &context);

    if (result == 0 && argc == 4 && strcmp(argv[1], "create") == 0)
        result = rawstor_create_sync(context, argv[2], strtoull(argv[3], NULL, 10), NULL);
    else if (result == 0 && argc == 3 && strcmp(argv[1], "remove") == 0)
        result = rawstor_remove_sync(context, argv[2]);
    else
        return 2;
    if (result < 0)
        fprintf(stderr, "%s\n", rawstor_error_message(context));
    rawstor_context_destroy(context);
    return result < 0;
}
