;; Reports under invalid names: one that would end a line of text and begin another, an empty one, and one of 100,000
;; bytes. It also reports a million values, 1,000 at a time.
;; -- memory
200
;; -- process
(local $n i32)
(call $poke (i32.const 4096) (i32.const 0x207d2261))
(call $poke (i32.const 4100) (i32.const 0x786a0a31))
(call $add (i32.const 4096) (i32.const 8) (i64.const 1))
(call $add (i32.const 16) (i32.const 0) (i64.const 1))
(call $add (i32.const 1200000) (i32.const 100000) (i64.const 1))
(local.set $n (i32.const 1000))
(loop $again
  (call $observe (i32.const 16) (i32.const 7) (i32.const 131072) (i32.const 1000))
  (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
