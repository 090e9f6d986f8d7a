/* Plugins load the library and drop it again. Not linked with it. */
#include <dlfcn.h>
#include <pthread.h>
#include <rawstor.h>
#include <stdio.h>
#include <stdlib.h>

static void *load_use_drop(void *library)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    int (*create)(const struct rawstor_context_options *, rawstor_context **);
    int (*destroy)(rawstor_context *);
    rawstor_context *context;

    if (!handle) {
        printf("# %s\n", dlerror());
        return NULL;
    }
    *(void **)&create = dlsym(handle, "rawstor_context_create");
    *(void **)&destroy = dlsym(handle, "rawstor_context_destroy");
    if (!create || !destroy || create(NULL, &context) != 0 || destroy(context) != 0)
        return NULL;
    return dlclose(handle) == 0 ? library : NULL;
}

int main(void)
{
    static const char name[] = "a_library_that_is_loaded_and_dropped_leaves_no_trouble";
    char *library = getenv("RAWSTOR_LIBRARY");

    for (int turn = 0; turn < 20; turn++) {
        pthread_t thread;
        void *result;
        if (!load_use_drop(library) || pthread_create(&thread, NULL, load_use_drop, library) != 0
            || pthread_join(thread, &result) != 0 || !result) {
            printf("not ok - %s\n", name);
            return 1;
        }
    }
    printf("ok - %s\n", name);
    return 0;
}
