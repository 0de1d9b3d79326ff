/* The system calls that the C library makes, so that a plugin imports none.
 *
 * What is printed becomes lines of the log, the clock always says the same, and all else is refused as "not supported". So
 * an operator that reads a file or the time compiles, and sees that there is neither. Natively this file is empty.
 */
#ifdef __wasm__

#include <string.h>

#include "contract.h"

/* As the system interface numbers them. */
enum { OK = 0, BAD_FILE = 8, NOT_SUPPORTED = 52, NOT_SEEKABLE = 70 };
enum { STDIN = 0, STDOUT = 1, STDERR = 2, LINE_BYTES_MAX = 8192 };

#define WASI(name) __imported_wasi_snapshot_preview1_##name
/* Zig calls them by other names, and so does the part of the C library that it has rewritten. */
#define ALSO(name) \
  extern __typeof__(WASI(name)) also_##name __asm__(#name "|wasi_snapshot_preview1") \
      __attribute__((alias("__imported_wasi_snapshot_preview1_" #name)));
#define REFUSED(name, ...) \
  int32_t WASI(name)(__VA_ARGS__); \
  int32_t WASI(name)(__VA_ARGS__) { return NOT_SUPPORTED; } \
  ALSO(name)
/* Parameters without names, which only newer C allows. */
#pragma clang diagnostic ignored "-Wpragmas"
#pragma clang diagnostic ignored "-Wunknown-warning-option"
#pragma clang diagnostic ignored "-Wc2x-extensions"
#pragma clang diagnostic ignored "-Wc23-extensions"
#define I int32_t
#define L int64_t

static struct {
  uint8_t bytes[LINE_BYTES_MAX];
  size_t len;
} lines[2];

static void end_line(I file) {
  size_t len = lines[file - STDOUT].len;
  lines[file - STDOUT].len = 0;
  fm_log(file == STDOUT ? FM_INFO : FM_WARN, "%.*s", (int)len, (const char *)lines[file - STDOUT].bytes);
}

I WASI(fd_write)(I file, const fm_bytes *parts, I len, size_t *written);
I WASI(fd_write)(I file, const fm_bytes *parts, I len, size_t *written) {
  if (file != STDOUT && file != STDERR) return BAD_FILE;
  *written = 0;
  for (I part = 0; part < len; part++) {
    for (size_t index = 0; index < parts[part].len; index++) {
      uint8_t byte = parts[part].ptr[index];
      if (byte != '\n') lines[file - STDOUT].bytes[lines[file - STDOUT].len++] = byte;
      if (byte == '\n' || lines[file - STDOUT].len == LINE_BYTES_MAX) end_line(file);
    }
    *written += parts[part].len;
  }
  return OK;
}

/* Output looks like a terminal, so the C library hands over every line when it is complete. */
I WASI(fd_fdstat_get)(I file, uint8_t *status);
I WASI(fd_fdstat_get)(I file, uint8_t *status) {
  enum { STATUS_BYTES = 24, CHARACTER_DEVICE = 2 };
  if (file < STDIN || file > STDERR) return BAD_FILE;
  memset(status, 0, STATUS_BYTES);
  status[0] = CHARACTER_DEVICE;
  return OK;
}

I WASI(fd_close)(I file);
I WASI(fd_close)(I file) { return file < STDIN || file > STDERR ? BAD_FILE : OK; }

I WASI(fd_read)(I file, I parts, I len, size_t *read);
I WASI(fd_read)(I file, I parts, I len, size_t *read) {
  (void)parts, (void)len;
  *read = 0;
  return file == STDIN ? OK : BAD_FILE;
}

I WASI(fd_seek)(I file, L offset, I whence, I position);
I WASI(fd_seek)(I file, L offset, I whence, I position) {
  (void)file, (void)offset, (void)whence, (void)position;
  return NOT_SEEKABLE;
}

I WASI(fd_prestat_get)(I file, I prestat);
I WASI(fd_prestat_get)(I file, I prestat) {
  (void)file, (void)prestat;
  return BAD_FILE;
}

/* No arguments and no variables. */
static I nothing(size_t *items, size_t *bytes) {
  *items = *bytes = 0;
  return OK;
}
I WASI(args_sizes_get)(size_t *items, size_t *bytes);
I WASI(args_sizes_get)(size_t *items, size_t *bytes) { return nothing(items, bytes); }
I WASI(environ_sizes_get)(size_t *items, size_t *bytes);
I WASI(environ_sizes_get)(size_t *items, size_t *bytes) { return nothing(items, bytes); }
REFUSED(args_get, I, I)
REFUSED(environ_get, I, I)

/* The clock stands still: results must not depend on it. */
I WASI(clock_res_get)(I clock, uint64_t *ns);
I WASI(clock_res_get)(I clock, uint64_t *ns) {
  (void)clock;
  *ns = 1;
  return OK;
}
I WASI(clock_time_get)(I clock, L precision, uint64_t *ns);
I WASI(clock_time_get)(I clock, L precision, uint64_t *ns) {
  (void)clock, (void)precision;
  *ns = 0;
  return OK;
}

I WASI(sched_yield)(void);
I WASI(sched_yield)(void) { return OK; }

_Noreturn void WASI(proc_exit)(I status);
_Noreturn void WASI(proc_exit)(I status) {
  fm_log(FM_ERROR, "the plugin has called exit(%d)", (int)status);
  __builtin_trap();
}

REFUSED(fd_advise, I, L, L, I)
REFUSED(fd_allocate, I, L, L)
REFUSED(fd_datasync, I)
REFUSED(fd_fdstat_set_flags, I, I)
REFUSED(fd_fdstat_set_rights, I, L, L)
REFUSED(fd_filestat_get, I, I)
REFUSED(fd_filestat_set_size, I, L)
REFUSED(fd_filestat_set_times, I, L, L, I)
REFUSED(fd_pread, I, I, I, L, I)
REFUSED(fd_prestat_dir_name, I, I, I)
REFUSED(fd_pwrite, I, I, I, L, I)
REFUSED(fd_readdir, I, I, I, L, I)
REFUSED(fd_renumber, I, I)
REFUSED(fd_sync, I)
REFUSED(fd_tell, I, I)
REFUSED(path_create_directory, I, I, I)
REFUSED(path_filestat_get, I, I, I, I, I)
REFUSED(path_filestat_set_times, I, I, I, I, L, L, I)
REFUSED(path_link, I, I, I, I, I, I, I)
REFUSED(path_open, I, I, I, I, I, L, L, I, I)
REFUSED(path_readlink, I, I, I, I, I, I)
REFUSED(path_remove_directory, I, I, I)
REFUSED(path_rename, I, I, I, I, I, I)
REFUSED(path_symlink, I, I, I, I, I)
REFUSED(path_unlink_file, I, I, I)
REFUSED(poll_oneoff, I, I, I, I)
REFUSED(random_get, I, I)
REFUSED(sock_accept, I, I, I)
REFUSED(sock_recv, I, I, I, I, I, I)
REFUSED(sock_send, I, I, I, I, I)
REFUSED(sock_shutdown, I, I)

ALSO(fd_write)
ALSO(fd_fdstat_get)
ALSO(fd_close)
ALSO(fd_read)
ALSO(fd_seek)
ALSO(fd_prestat_get)
ALSO(args_sizes_get)
ALSO(environ_sizes_get)
ALSO(clock_res_get)
ALSO(clock_time_get)
ALSO(sched_yield)
ALSO(proc_exit)

#endif
