#include "test.h"

TEST(the_library_tells_its_version)
{
    char header[32];
    snprintf(header, sizeof header, "%d.%d.%d", RAWSTOR_VERSION_MAJOR, RAWSTOR_VERSION_MINOR, RAWSTOR_VERSION_PATCH);
    CHECK(strcmp(rawstor_version(), header) == 0);
}

TEST(each_result_of_the_header_has_a_sentence_of_its_own)
{
    static const int results[] = {0, EINVAL, EAGAIN, ENOENT, EEXIST, EBUSY, ESTALE, EROFS, ENOSPC, EIO, ETIMEDOUT, ECONNREFUSED,
                                  ECANCELED, EBADF, EPROTO, EDEADLK, EOPNOTSUPP, ENOMEM, EACCES};
    const size_t count = sizeof results / sizeof *results;
    for (size_t i = 0; i < count; i++) {
        CHECK(strcmp(rawstor_strerror(-results[i]), rawstor_strerror(-9999)) != 0);
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(rawstor_strerror(-results[i]), rawstor_strerror(-results[j])) != 0);
    }
}

TEST(a_number_that_is_no_result_has_a_sentence_as_well)
{
    CHECK(rawstor_strerror(INT32_MIN) != NULL);
    CHECK(rawstor_strerror(INT32_MAX) != NULL);
}
