/* Option structs: their size, and their form as text. */
#include "test.h"

TEST(a_null_option_struct_means_all_defaults)
{
    rawstor_context *context;
    CHECK_EQUAL(rawstor_context_create(NULL, &context), 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_struct_of_an_older_program_is_shorter_and_fine)
{
    struct rawstor_context_options options;
    rawstor_context *context;
    /* What lies behind its end is not looked at. */
    memset(&options, 0xff, sizeof options);
    options.size = sizeof options.size;
    CHECK_EQUAL(rawstor_context_create(&options, &context), 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

struct newer_options {
    struct rawstor_context_options known;
    uint64_t unknown[4];
};

TEST(a_struct_of_a_newer_program_is_fine_while_its_new_fields_are_zero)
{
    struct newer_options options = {{.size = sizeof options}, {0}};
    rawstor_context *context;
    CHECK_EQUAL(rawstor_context_create(&options.known, &context), 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_wish_that_this_library_does_not_know_is_refused)
{
    struct newer_options options = {{.size = sizeof options}, {0, 0, 1, 0}};
    rawstor_context *context;
    CHECK_EQUAL(rawstor_context_create(&options.known, &context), -EINVAL);
    CHECK(strstr(rawstor_error_message(NULL), "not known"));
}

TEST(a_struct_without_its_size_is_refused_with_a_hint)
{
    struct rawstor_context_options options = {0};
    rawstor_context *context;
    CHECK_EQUAL(rawstor_context_create(&options, &context), -EINVAL);
    CHECK(strstr(rawstor_error_message(NULL), "sizeof"));
    options.size = (size_t)-1;
    CHECK_EQUAL(rawstor_context_create(&options, &context), -EINVAL);
}

TEST(options_as_text_set_the_fields_they_name)
{
    struct rawstor_volume_options options = {.size = sizeof options, .operations_max = 7};
    CHECK_EQUAL(rawstor_volume_options_parse(&options, "read_only=1, request_timeout_ms=500 open_timeout_ms=0x10"), 0);
    CHECK_EQUAL(options.flags, RAWSTOR_OPEN_READ_ONLY);
    CHECK_EQUAL(options.request_timeout_ms, 500);
    CHECK_EQUAL(options.open_timeout_ms, 16);
    CHECK_EQUAL(options.operations_max, 7);
    CHECK_EQUAL(options.size, sizeof options);
    CHECK_EQUAL(rawstor_volume_options_parse(&options, "force=yes,read_only=no"), 0);
    CHECK_EQUAL(options.flags, RAWSTOR_OPEN_FORCE);
    CHECK_EQUAL(rawstor_volume_options_parse(&options, ""), 0);
}

TEST(a_mistake_in_the_text_changes_nothing_and_is_named)
{
    struct rawstor_volume_options options = {.size = sizeof options};
    CHECK_EQUAL(rawstor_volume_options_parse(&options, "operations_max=9,colour=3"), -EINVAL);
    CHECK(strstr(rawstor_error_message(NULL), "colour"));
    CHECK_EQUAL(options.operations_max, 0);
    CHECK_EQUAL(rawstor_volume_options_parse(&options, "operations_max=many"), -EINVAL);
    CHECK_EQUAL(rawstor_volume_options_parse(&options, "operations_max"), -EINVAL);
    CHECK_EQUAL(rawstor_volume_options_parse(&options, "operations_max=99999999999999999999999"), -EINVAL);
}

TEST(other_structs_have_a_text_form_too)
{
    struct rawstor_context_options context = {.size = sizeof context};
    struct rawstor_create_options create = {.size = sizeof create};
    CHECK_EQUAL(rawstor_context_options_parse(&context, "log_level=3"), 0);
    CHECK_EQUAL(context.log_level, RAWSTOR_LOG_WARNING);
    CHECK_EQUAL(rawstor_context_options_parse(&context, "no_spin=1"), 0);
    CHECK_EQUAL(context.flags, RAWSTOR_CONTEXT_NO_SPIN);
    CHECK_EQUAL(rawstor_context_options_parse(&context, "no_spin=0"), 0);
    CHECK_EQUAL(context.flags, 0);
    CHECK_EQUAL(rawstor_create_options_parse(&create, "chunk_bytes=1048576,timeout_ms=9"), 0);
    CHECK_EQUAL(create.chunk_bytes, 1048576);
    CHECK_EQUAL(create.timeout_ms, 9);
}

TEST(options_out_of_range_are_refused)
{
    struct rawstor_context_options options = {.size = sizeof options, .log_level = 77};
    rawstor_context *context;
    CHECK_EQUAL(rawstor_context_create(&options, &context), -EINVAL);
}
