;; Has a version of megabytes.
;; -- memory
200
;; -- describe
(call $poke (i32.const 264) (i32.const 1200000))
(call $poke (i32.const 268) (i32.const 11000000))
