;; Counts without end, under 65,536 names of eight letters.
;; -- process
(local $n i32)
(loop $again
  (local.set $n (i32.add (local.get $n) (i32.const 1)))
  (call $poke (i32.const 4096) (i32.add (i32.const 0x61616161)
    (i32.or (i32.and (local.get $n) (i32.const 15))
      (i32.shl (i32.and (local.get $n) (i32.const 240)) (i32.const 4)))))
  (call $poke (i32.const 4100) (i32.add (i32.const 0x61616161)
    (i32.or (i32.and (i32.shr_u (local.get $n) (i32.const 8)) (i32.const 15))
      (i32.and (i32.shr_u (local.get $n) (i32.const 4)) (i32.const 3840)))))
  (call $add (i32.const 4096) (i32.const 8) (i64.const -1))
  (br $again))
