/* SPDX-License-Identifier: GPL-2.0-only
 *
 * fio engine "rawstor": volumes of rawstor OSTs through librawstor. The same file is built inside fio's tree and as an external engine.
 *
 * A volume takes one writer, so jobs that run as threads of one process share one: the first job opens it, the last closes it. Each job
 * calls the library under the volume's lock and finds its completions in a list of its own. A job that is alone waits inside the library
 * and never finds the lock taken; jobs that share sleep outside of the lock, on the library's descriptor and on one of their own.
 *
 * Nothing is opened in the parent of forked jobs but for the moment in which setup asks for the size: a context does not survive fork().
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#ifdef RAWSTOR_EXTERNAL_ENGINE
#include "config-host.h"
#include "fio.h"
#include "optgroup.h"
#else
#include "../fio.h"
#include "../optgroup.h"
#endif

#include <rawstor.h>

struct rawstor_fio_options {
	/* fio puts its thread_data here. */
	void *pad;
	char *url;
	unsigned int durable;
	unsigned int force;
};

static struct fio_option options[] = {
	{
		.name	  = "url",
		.lname	  = "Volume URL",
		.type	  = FIO_OPT_STR_STORE,
		.off1	  = offsetof(struct rawstor_fio_options, url),
		.help	  = "URL of the volume, ost://host:port/name or ost+unix:///name?socket=path",
		.category = FIO_OPT_C_ENGINE,
		.group	  = FIO_OPT_G_INVALID,
	},
	{
		.name	  = "durable",
		.lname	  = "Durable writes",
		.type	  = FIO_OPT_BOOL,
		.off1	  = offsetof(struct rawstor_fio_options, durable),
		.help	  = "Writes and trims are on stable media when they complete (as with sync=1)",
		.def	  = "0",
		.category = FIO_OPT_C_ENGINE,
		.group	  = FIO_OPT_G_INVALID,
	},
	{
		.name	  = "force",
		.lname	  = "Take the volume",
		.type	  = FIO_OPT_BOOL,
		.off1	  = offsetof(struct rawstor_fio_options, force),
		.help	  = "Take the volume from another writer that has it open",
		.def	  = "0",
		.category = FIO_OPT_C_ENGINE,
		.group	  = FIO_OPT_G_INVALID,
	},
	{
		.name = NULL,
	},
};

/* An open volume and the jobs of this process that use it. */
struct shared_volume {
	struct shared_volume *next;
	char *url;
	bool read_only;
	unsigned int jobs;
	/* Held around every call of the library; guards all completions as well. */
	pthread_mutex_t lock;
	rawstor_context *context;
	rawstor_volume *volume;
};

/* Guards the list, and is held while a volume is opened or closed: others that want it wait for the outcome. */
static pthread_mutex_t volumes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared_volume *volumes;

struct rawstor_job {
	struct shared_volume *shared;
	uint32_t write_flags;
	bool reported;

	/* Given to the library and not yet sent: what the next commit sends. */
	struct io_u **queued;
	unsigned int queued_count;
	/* Commits that have sent nothing, up to now. */
	unsigned int held;
	/* Under way and done, in the order of completion; a ring of `depth`. Guarded by the volume's lock. */
	struct io_u **done;
	unsigned int done_first;
	unsigned int done_count;
	/* What the last getevents handed out. */
	struct io_u **events;
	unsigned int depth;

	/* Another job that finds our completions wakes us through this when we sleep. */
	int wake;
	bool sleeping;
};

static int rawstor_open_context(rawstor_context **context)
{
	struct rawstor_context_options o = { .size = sizeof(o) };
	int r = rawstor_context_create(&o, context);

	if (r < 0)
		log_err("rawstor: %s\n", rawstor_error_message(NULL));
	return r;
}

static int rawstor_open_volume(struct thread_data *td, struct shared_volume *shared)
{
	const struct rawstor_fio_options *eo = td->eo;
	struct rawstor_volume_options o = { .size = sizeof(o) };
	int r = rawstor_open_context(&shared->context);

	if (r < 0)
		return r;

	/* Jobs share this number, and the first does not know how many will come. */
	o.operations_max = 1024;
	if (shared->read_only)
		o.flags |= RAWSTOR_OPEN_READ_ONLY;
	if (eo->force)
		o.flags |= RAWSTOR_OPEN_FORCE;
	r = rawstor_volume_open_sync(shared->context, shared->url, &o, &shared->volume);
	if (r < 0) {
		log_err("rawstor: %s\n", rawstor_error_message(shared->context));
		if (r == -EBUSY)
			log_err("rawstor: a volume takes one writing process: run the jobs of one volume as threads (thread=1), or give each job a volume of its own\n");
		rawstor_context_destroy(shared->context);
	}
	return r;
}

static struct shared_volume *rawstor_acquire(struct thread_data *td, bool read_only)
{
	const struct rawstor_fio_options *eo = td->eo;
	struct shared_volume *shared;

	pthread_mutex_lock(&volumes_lock);
	for (shared = volumes; shared; shared = shared->next)
		if (shared->read_only == read_only && !strcmp(shared->url, eo->url))
			break;
	if (shared) {
		/* A job that was alone sleeps under the lock, until its next completion at most. */
		pthread_mutex_lock(&shared->lock);
		shared->jobs++;
		pthread_mutex_unlock(&shared->lock);
		goto out;
	}

	shared = calloc(1, sizeof(*shared));
	if (!shared)
		goto out;
	shared->url = strdup(eo->url);
	shared->read_only = read_only;
	if (!shared->url || rawstor_open_volume(td, shared) < 0) {
		free(shared->url);
		free(shared);
		shared = NULL;
		goto out;
	}
	shared->jobs = 1;
	pthread_mutex_init(&shared->lock, NULL);
	shared->next = volumes;
	volumes = shared;
out:
	pthread_mutex_unlock(&volumes_lock);
	return shared;
}

static void rawstor_release(struct shared_volume *shared)
{
	struct shared_volume **link = &volumes;
	unsigned int left;

	pthread_mutex_lock(&volumes_lock);
	pthread_mutex_lock(&shared->lock);
	left = --shared->jobs;
	pthread_mutex_unlock(&shared->lock);
	if (!left) {
		while (*link != shared)
			link = &(*link)->next;
		*link = shared->next;
		rawstor_volume_close_sync(shared->volume);
		rawstor_context_destroy(shared->context);
		pthread_mutex_destroy(&shared->lock);
		free(shared->url);
		free(shared);
	}
	pthread_mutex_unlock(&volumes_lock);
}

static void fio_rawstor_completed(void *argument, int result)
{
	struct io_u *io_u = argument;
	struct rawstor_job *job = io_u->engine_data;

	if (result < 0) {
		io_u->error = -result;
		io_u->resid = io_u->xfer_buflen;
		/* Here, since the library's sentence is about this very error now. One is enough for a job. */
		if (!job->reported)
			log_err("rawstor: %s at %llu: %s\n", io_ddir_name(io_u->ddir), io_u->offset,
				rawstor_volume_error_message(job->shared->volume));
		job->reported = true;
	}
	job->done[(job->done_first + job->done_count++) % job->depth] = io_u;
	if (job->sleeping)
		eventfd_write(job->wake, 1);
}

static int fio_rawstor_start(struct rawstor_job *job, struct io_u *io_u)
{
	rawstor_volume *volume = job->shared->volume;
	struct iovec iov = { .iov_base = io_u->xfer_buf, .iov_len = io_u->xfer_buflen };

	switch (io_u->ddir) {
	case DDIR_READ:
		return rawstor_read(volume, &iov, 1, io_u->offset, 0, fio_rawstor_completed, io_u);
	case DDIR_WRITE:
		return rawstor_write(volume, &iov, 1, io_u->offset, job->write_flags, fio_rawstor_completed, io_u);
	case DDIR_TRIM:
		return rawstor_discard(volume, io_u->offset, io_u->xfer_buflen, job->write_flags, fio_rawstor_completed, io_u);
	case DDIR_SYNC:
	case DDIR_DATASYNC:
	case DDIR_SYNC_FILE_RANGE:
		return rawstor_flush(volume, fio_rawstor_completed, io_u);
	default:
		return -EOPNOTSUPP;
	}
}

static enum fio_q_status fio_rawstor_queue(struct thread_data *td, struct io_u *io_u)
{
	struct rawstor_job *job = td->io_ops_data;
	struct shared_volume *shared = job->shared;
	enum fio_q_status status = FIO_Q_QUEUED;
	int r;

	fio_ro_check(td, io_u);

	pthread_mutex_lock(&shared->lock);
	/* With io_submit_mode=offload fio hands the io_units of one job to many. */
	io_u->engine_data = job;
	/*
	 * Never FIO_Q_BUSY: fio then gives the same io_unit again with a new seed in its verify header, and verification of mixed reads and
	 * writes fails. When others have all of the volume's slots the job waits here.
	 */
	do {
		r = fio_rawstor_start(job, io_u);
	} while (r == -EAGAIN && rawstor_context_wait(shared->context, 1, -1) > 0);

	if (r == 0) {
		job->queued[job->queued_count++] = io_u;
	} else {
		log_err("rawstor: %s at %llu: %s\n", io_ddir_name(io_u->ddir), io_u->offset,
			rawstor_volume_error_message(shared->volume));
		io_u->error = -r;
		io_u->resid = io_u->xfer_buflen;
		status = FIO_Q_COMPLETED;
	}
	pthread_mutex_unlock(&shared->lock);
	return status;
}

static void fio_rawstor_issued(struct thread_data *td, struct rawstor_job *job)
{
	struct timespec now;
	unsigned int i;

	if (fio_fill_issue_time(td)) {
		fio_gettime(&now, NULL);
		for (i = 0; i < job->queued_count; i++) {
			job->queued[i]->issue_time = now;
			io_u_queued(td, job->queued[i]);
		}
		/* only used for iolog */
		if (td->o.read_iolog_file)
			td->last_issue = now;
	}
	io_u_mark_submit(td, job->queued_count);
	job->queued_count = 0;
}

/* More would let the OST run dry meanwhile. */
static const unsigned int commits_together = 8;

/*
 * Some have ended and wait to be taken, and the depth is reached: fio takes one, queues another in its place, and so on, without doing anything
 * else in between. What it queues meanwhile goes out together, with the last of them. A job that is held back may sleep in between.
 */
static bool fio_rawstor_comes_again(struct thread_data *td, struct rawstor_job *job)
{
	return job->done_count && td->cur_depth >= td->o.iodepth && td->o.io_submit_mode == IO_MODE_INLINE && !td->o.thinktime &&
		!td->o.read_iolog_file && !td->flow && !ddir_rw_sum(td->o.rate) && !ddir_rw_sum(td->o.rate_iops);
}

static int fio_rawstor_commit(struct thread_data *td)
{
	struct rawstor_job *job = td->io_ops_data;
	int r = 0;

	if (!job->queued_count)
		return 0;

	/* Before they are sent: a completion may come out of the same call. */
	fio_rawstor_issued(td, job);

	pthread_mutex_lock(&job->shared->lock);
	if (!fio_rawstor_comes_again(td, job) || ++job->held == commits_together) {
		job->held = 0;
		r = rawstor_context_process(job->shared->context);
	}
	pthread_mutex_unlock(&job->shared->lock);
	return r < 0 ? r : 0;
}

/* Without the lock: whatever another job delivers to us meanwhile wakes us. */
static int fio_rawstor_sleep(struct rawstor_job *job, int timeout_ms)
{
	struct pollfd fds[2] = {
		{ .fd = rawstor_context_fd(job->shared->context), .events = POLLIN },
		{ .fd = job->wake, .events = POLLIN },
	};
	eventfd_t count;
	int r;

	job->sleeping = true;
	pthread_mutex_unlock(&job->shared->lock);
	r = poll(fds, 2, timeout_ms);
	if (r < 0)
		r = -errno;
	pthread_mutex_lock(&job->shared->lock);
	job->sleeping = false;
	eventfd_read(job->wake, &count);
	return r;
}

static unsigned int fio_rawstor_take(struct rawstor_job *job, unsigned int count, unsigned int max)
{
	for (; count < max && job->done_count; count++) {
		job->events[count] = job->done[job->done_first];
		job->done_first = (job->done_first + 1) % job->depth;
		job->done_count--;
	}
	return count;
}

static int fio_rawstor_getevents(struct thread_data *td, unsigned int min, unsigned int max, const struct timespec *timeout)
{
	struct rawstor_job *job = td->io_ops_data;
	struct shared_volume *shared = job->shared;
	int timeout_ms = timeout ? timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000 : -1;
	unsigned int count;
	int r = 0;

	pthread_mutex_lock(&shared->lock);
	count = fio_rawstor_take(job, 0, max);
	if (!count && !min) {
		r = rawstor_context_process(shared->context);
		count = fio_rawstor_take(job, 0, max);
	}
	while (count < min) {
		if (shared->jobs == 1) {
			r = rawstor_context_wait(shared->context, min - count, timeout_ms);
		} else {
			r = rawstor_context_process(shared->context);
			if (r >= 0 && !job->done_count)
				r = fio_rawstor_sleep(job, timeout_ms);
		}
		if (r < 0 && r != -EINTR)
			break;
		count = fio_rawstor_take(job, count, max);
		if (timeout)
			break;
	}
	pthread_mutex_unlock(&shared->lock);
	return r < 0 && r != -EINTR && !count ? r : (int)count;
}

static struct io_u *fio_rawstor_event(struct thread_data *td, int event)
{
	struct rawstor_job *job = td->io_ops_data;

	return job->events[event];
}

static int fio_rawstor_setup(struct thread_data *td)
{
	const struct rawstor_fio_options *eo = td->eo;
	struct rawstor_volume_info info = { .size = sizeof(info) };
	rawstor_context *context;
	int r;

	if (!eo->url) {
		log_err("rawstor: url= is missing, such as url=ost://127.0.0.1:7710/vm1\n");
		td_verror(td, EINVAL, "rawstor setup");
		return 1;
	}
	if (td->files_index > 1) {
		log_err("rawstor: a job has one volume, and not %u files: leave out filename= and nrfiles=\n", td->files_index);
		td_verror(td, EINVAL, "rawstor setup");
		return 1;
	}

	/* By name, not by opening: the size is free to know while another process writes. */
	r = rawstor_open_context(&context);
	if (r == 0) {
		r = rawstor_stat_sync(context, eo->url, &info);
		if (r < 0)
			log_err("rawstor: %s\n", rawstor_error_message(context));
		rawstor_context_destroy(context);
	}
	if (r < 0) {
		td_verror(td, -r, "rawstor setup");
		return 1;
	}

	if (!td->files_index) {
		add_file(td, td->o.filename ? : "rawstor", 0, 0);
		td->o.nr_files = td->o.nr_files ? : 1;
		td->o.open_files++;
	}
	td->files[0]->real_file_size = info.volume_bytes;
	return 0;
}

static void fio_rawstor_cleanup(struct thread_data *td)
{
	struct rawstor_job *job = td->io_ops_data;

	if (!job)
		return;
	td->io_ops_data = NULL;
	if (job->shared)
		rawstor_release(job->shared);
	if (job->wake >= 0)
		close(job->wake);
	free(job->queued);
	free(job->done);
	free(job->events);
	free(job);
}

static int fio_rawstor_init(struct thread_data *td)
{
	const struct rawstor_fio_options *eo = td->eo;
	struct rawstor_job *job = calloc(1, sizeof(*job));

	if (!job)
		return 1;
	td->io_ops_data = job;
	job->depth = td->o.iodepth;
	job->write_flags = eo->durable || td->o.sync_io ? RAWSTOR_DURABLE : 0;
	job->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	job->queued = calloc(job->depth, sizeof(*job->queued));
	job->done = calloc(job->depth, sizeof(*job->done));
	job->events = calloc(job->depth, sizeof(*job->events));
	if (job->wake >= 0 && job->queued && job->done && job->events)
		job->shared = rawstor_acquire(td, !td_write(td) && !td_trim(td));
	if (!job->shared) {
		fio_rawstor_cleanup(td);
		return 1;
	}
	return 0;
}

static int fio_rawstor_nothing(struct thread_data *td, struct fio_file *f)
{
	return 0;
}

#ifdef RAWSTOR_EXTERNAL_ENGINE
struct ioengine_ops ioengine = {
#else
FIO_STATIC struct ioengine_ops ioengine = {
#endif
	.name			= "rawstor",
	.version		= FIO_IOOPS_VERSION,
	.flags			= FIO_DISKLESSIO | FIO_NOEXTEND | FIO_NODISKUTIL | FIO_RAWIO | FIO_MEMALIGN |
				  FIO_ASYNCIO_SETS_ISSUE_TIME,
	.setup			= fio_rawstor_setup,
	.init			= fio_rawstor_init,
	.queue			= fio_rawstor_queue,
	.commit			= fio_rawstor_commit,
	.getevents		= fio_rawstor_getevents,
	.event			= fio_rawstor_event,
	.cleanup		= fio_rawstor_cleanup,
	.open_file		= fio_rawstor_nothing,
	.close_file		= fio_rawstor_nothing,
	.invalidate		= fio_rawstor_nothing,
	.options		= options,
	.option_struct_size	= sizeof(struct rawstor_fio_options),
};

static void fio_init fio_rawstor_register(void)
{
	register_ioengine(&ioengine);
}

static void fio_exit fio_rawstor_unregister(void)
{
	unregister_ioengine(&ioengine);
}
