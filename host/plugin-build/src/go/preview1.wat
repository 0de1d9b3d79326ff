;; The system calls of Go's run-time, for a plugin without an operating system.
;;
;; All are answered in the module: arguments and environment are empty, the clock advances by a fixed step each time that it
;; is read (the scheduler waits for it to move), randomness comes from a fixed seed, waiting is over at once, and there are
;; no files. So a component of it imports nothing but the contract, and does the same each time. What is printed becomes lines of
;; the job's log. Written by hand, because an adapter of WASI proper would import what plugins do not get.
;;
;; The buffer of the unfinished line lies at 4096 to 8192: Go's linker leaves it for arguments in a browser, and puts nothing
;; there. It does not buffer what ends without an end of line: a crash of the run-time does, and `proc_exit` flushes.
(module
  (import "env" "memory" (memory 0))
  (import "floodmark:engine/log@0.1.0" "line" (func $log_line (param i32 i32 i32)))

  ;; Nanoseconds.
  (global $clock (mut i64) (i64.const 1000000000))
  (global $random (mut i64) (i64.const 0x2545f4914f6cdd1d))
  ;; Bytes of the unfinished line, and the level that it will have.
  (global $line_bytes (mut i32) (i32.const 0))
  (global $line_level (mut i32) (i32.const 2))

  ;; The length of the UTF-8 character at `at`, or 0 if there is none that ends before `end`.
  (func $character (param $at i32) (param $end i32) (result i32)
    (local $first i32) (local $bytes i32) (local $code i32) (local $index i32) (local $next i32)
    (local.set $first (i32.load8_u (local.get $at)))
    (if (i32.lt_u (local.get $first) (i32.const 0x80)) (then (return (i32.const 1))))
    (if (i32.lt_u (local.get $first) (i32.const 0xc2)) (then (return (i32.const 0))))
    (if (i32.gt_u (local.get $first) (i32.const 0xf4)) (then (return (i32.const 0))))
    (local.set $bytes (i32.const 2))
    (local.set $code (i32.and (local.get $first) (i32.const 0x1f)))
    (if (i32.ge_u (local.get $first) (i32.const 0xe0)) (then
      (local.set $bytes (i32.const 3))
      (local.set $code (i32.and (local.get $first) (i32.const 0x0f)))))
    (if (i32.ge_u (local.get $first) (i32.const 0xf0)) (then
      (local.set $bytes (i32.const 4))
      (local.set $code (i32.and (local.get $first) (i32.const 0x07)))))
    (if (i32.gt_u (i32.add (local.get $at) (local.get $bytes)) (local.get $end)) (then (return (i32.const 0))))
    (local.set $index (i32.const 1))
    (loop $more
      (local.set $next (i32.load8_u (i32.add (local.get $at) (local.get $index))))
      (if (i32.ne (i32.and (local.get $next) (i32.const 0xc0)) (i32.const 0x80)) (then (return (i32.const 0))))
      (local.set $code (i32.or
        (i32.shl (local.get $code) (i32.const 6))
        (i32.and (local.get $next) (i32.const 0x3f))))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $index) (local.get $bytes))))
    ;; Longer than need be, half of a pair, or beyond the last character.
    (if (i32.and (i32.eq (local.get $bytes) (i32.const 3)) (i32.lt_u (local.get $code) (i32.const 0x800)))
      (then (return (i32.const 0))))
    (if (i32.eq (i32.shr_u (local.get $code) (i32.const 11)) (i32.const 0x1b)) (then (return (i32.const 0))))
    (if (i32.and (i32.eq (local.get $bytes) (i32.const 4)) (i32.lt_u (local.get $code) (i32.const 0x10000)))
      (then (return (i32.const 0))))
    (if (i32.gt_u (local.get $code) (i32.const 0x10ffff)) (then (return (i32.const 0))))
    (local.get $bytes))

  ;; Hands the line over, if it has anything. Bytes that are not text become question marks: the host takes only text.
  (func $flush
    (local $at i32) (local $end i32) (local $bytes i32)
    (if (i32.eqz (global.get $line_bytes)) (then (return)))
    (local.set $at (i32.const 4096))
    (local.set $end (i32.add (i32.const 4096) (global.get $line_bytes)))
    (loop $more
      (local.set $bytes (call $character (local.get $at) (local.get $end)))
      (if (i32.eqz (local.get $bytes)) (then
        (i32.store8 (local.get $at) (i32.const 63))
        (local.set $bytes (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (local.get $bytes)))
      (br_if $more (i32.lt_u (local.get $at) (local.get $end))))
    (call $log_line (global.get $line_level) (i32.const 4096) (global.get $line_bytes))
    (global.set $line_bytes (i32.const 0)))

  (func $put (param $byte i32)
    (if (i32.eq (local.get $byte) (i32.const 10)) (then
      (call $flush)
      (return)))
    (if (i32.eq (global.get $line_bytes) (i32.const 4096)) (then (call $flush)))
    (i32.store8 (i32.add (i32.const 4096) (global.get $line_bytes)) (local.get $byte))
    (global.set $line_bytes (i32.add (global.get $line_bytes) (i32.const 1))))

  ;; Standard output at `info`, standard error at `warn`.
  (func (export "fd_write") (param $file i32) (param $parts i32) (param $count i32) (param $written i32) (result i32)
    (local $level i32) (local $at i32) (local $end i32) (local $all i32)
    (if (i32.gt_u (i32.sub (local.get $file) (i32.const 1)) (i32.const 1)) (then (return (i32.const 8))))
    (local.set $level (i32.add (local.get $file) (i32.const 1)))
    (if (i32.ne (local.get $level) (global.get $line_level)) (then
      (call $flush)
      (global.set $line_level (local.get $level))))
    (block $done
      (loop $next_part
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $at (i32.load (local.get $parts)))
        (local.set $end (i32.add (local.get $at) (i32.load offset=4 (local.get $parts))))
        (local.set $all (i32.add (local.get $all) (i32.load offset=4 (local.get $parts))))
        (block $part_done
          (loop $next_byte
            (br_if $part_done (i32.ge_u (local.get $at) (local.get $end)))
            (call $put (i32.load8_u (local.get $at)))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $next_byte)))
        (local.set $parts (i32.add (local.get $parts) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next_part)))
    (i32.store (local.get $written) (local.get $all))
    (i32.const 0))

  (func (export "proc_exit") (param i32)
    (call $flush)
    (unreachable))

  ;; A microsecond each time.
  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $time i32) (result i32)
    (global.set $clock (i64.add (global.get $clock) (i64.const 1000)))
    (i64.store (local.get $time) (global.get $clock))
    (i32.const 0))

  (func (export "clock_res_get") (param $clock i32) (param $resolution i32) (result i32)
    (i64.store (local.get $resolution) (i64.const 1000))
    (i32.const 0))

  ;; Everything that is waited for is there, and the clock is as far as it was waited for.
  (func (export "poll_oneoff") (param $asked i32) (param $events i32) (param $count i32) (param $answered i32) (result i32)
    (local $index i32) (local $wait i64)
    (loop $more
      (if (i32.lt_u (local.get $index) (local.get $count)) (then
        (i64.store (local.get $events) (i64.load (local.get $asked)))
        (i32.store offset=8 (local.get $events) (i32.const 0))
        (i32.store8 offset=10 (local.get $events) (i32.load8_u offset=8 (local.get $asked)))
        (i64.store offset=16 (local.get $events) (i64.const 0))
        (i64.store offset=24 (local.get $events) (i64.const 0))
        (if (i32.eqz (i32.load8_u offset=8 (local.get $asked))) (then
          (local.set $wait (i64.load offset=24 (local.get $asked)))
          ;; Either a span or a time of day.
          (if (i32.and (i32.load16_u offset=40 (local.get $asked)) (i32.const 1)) (then
            (local.set $wait (i64.sub (local.get $wait) (global.get $clock)))))
          (if (i64.gt_s (local.get $wait) (i64.const 0)) (then
            (global.set $clock (i64.add (global.get $clock) (local.get $wait)))))))
        (local.set $asked (i32.add (local.get $asked) (i32.const 48)))
        (local.set $events (i32.add (local.get $events) (i32.const 32)))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $more))))
    (i32.store (local.get $answered) (local.get $count))
    (i32.const 0))

  ;; Xorshift, a byte a step.
  (func (export "random_get") (param $at i32) (param $bytes i32) (result i32)
    (local $state i64)
    (local.set $state (global.get $random))
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.get $bytes)))
        (local.set $state (i64.xor (local.get $state) (i64.shl (local.get $state) (i64.const 13))))
        (local.set $state (i64.xor (local.get $state) (i64.shr_u (local.get $state) (i64.const 7))))
        (local.set $state (i64.xor (local.get $state) (i64.shl (local.get $state) (i64.const 17))))
        (i64.store8 (local.get $at) (i64.shr_u (local.get $state) (i64.const 32)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (local.set $bytes (i32.sub (local.get $bytes) (i32.const 1)))
        (br $more)))
    (global.set $random (local.get $state))
    (i32.const 0))

  (func $none_of_two (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $none_of_two))
  (export "environ_sizes_get" (func $none_of_two))
  (func $nothing (param i32 i32) (result i32) (i32.const 0))
  (export "args_get" (func $nothing))
  (export "environ_get" (func $nothing))
  (func (export "sched_yield") (result i32) (i32.const 0))

  ;; The three standard streams are there, as terminals are.
  (func (export "fd_fdstat_get") (param $file i32) (param $about i32) (result i32)
    (if (i32.gt_u (local.get $file) (i32.const 2)) (then (return (i32.const 8))))
    (i64.store (local.get $about) (i64.const 2))
    (i64.store offset=8 (local.get $about) (i64.const -1))
    (i64.store offset=16 (local.get $about) (i64.const 0))
    (i32.const 0))
  (func (export "fd_fdstat_set_flags") (param i32 i32) (result i32) (i32.const 0))

  ;; Nothing can be read: the end of the file.
  (func (export "fd_read") (param $file i32) (param i32 i32) (param $read i32) (result i32)
    (if (local.get $file) (then (return (i32.const 8))))
    (i32.store (local.get $read) (i32.const 0))
    (i32.const 0))

  ;; There are no other files: EBADF.
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_close") (param i32) (result i32) (i32.const 8))
  (func (export "fd_datasync") (param i32) (result i32) (i32.const 8))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_renumber") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_sync") (param i32) (result i32) (i32.const 8))
  (func (export "fd_tell") (param i32 i32) (result i32) (i32.const 8))

  ;; There are neither paths, processes nor sockets: ENOSYS.
  (func (export "path_create_directory") (param i32 i32 i32) (result i32) (i32.const 52))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 52))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 52))
  (func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "path_remove_directory") (param i32 i32 i32) (result i32) (i32.const 52))
  (func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "path_unlink_file") (param i32 i32 i32) (result i32) (i32.const 52))
  (func (export "proc_raise") (param i32) (result i32) (i32.const 52))
  (func (export "sock_accept") (param i32 i32 i32) (result i32) (i32.const 52))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "sock_shutdown") (param i32 i32) (result i32) (i32.const 52)))
