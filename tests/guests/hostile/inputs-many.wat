;; Declares hundreds of inputs.
;; -- memory
200
;; -- describe
(call $poke (i32.const 280) (i32.const 1200000))
(call $poke (i32.const 284) (i32.const 300))
