;; Declares a hundred thousand outputs.
;; -- memory
200
;; -- describe
(call $poke (i32.const 288) (i32.const 1200000))
(call $poke (i32.const 292) (i32.const 100000))
