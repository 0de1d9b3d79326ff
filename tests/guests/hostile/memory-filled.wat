;; Grows its memory and writes to each page, so that it is really there, and never gives up.
;; -- module
(global $at (mut i32) (i32.const 0))
;; -- process
(loop $more
  (global.set $at (memory.grow (i32.const 1)))
  (if (i32.ne (global.get $at) (i32.const -1))
    (then (memory.fill (i32.mul (global.get $at) (i32.const 65536)) (i32.const 1) (i32.const 65536))))
  (br $more))
