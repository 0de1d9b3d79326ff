;; Changes a thousand lists of states that are none.
;; -- memory
200
;; -- process
(call $poke (i32.const 1044) (i32.const 1200000))
(call $poke (i32.const 1048) (i32.const 1000))
