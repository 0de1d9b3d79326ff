;; Clears a list thousands of times.
;; -- memory
200
;; -- process
(call $poke (i32.const 1044) (i32.const 4096))
(call $poke (i32.const 1048) (i32.const 1))
(call $poke (i32.const 4096) (i32.const 1))
(call $poke (i32.const 4100) (i32.const 1200000))
(call $poke (i32.const 4104) (i32.const 5000))
