;; Writes to a value a thousand times.
;; -- memory
200
;; -- process
(call $poke (i32.const 1036) (i32.const 1200000))
(call $poke (i32.const 1040) (i32.const 1000))
