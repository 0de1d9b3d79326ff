;; Has a name of control characters.
;; -- describe
(call $poke (i32.const 256) (i32.const 4096))
(call $poke (i32.const 260) (i32.const 3))
(call $poke (i32.const 4096) (i32.const 662279))
