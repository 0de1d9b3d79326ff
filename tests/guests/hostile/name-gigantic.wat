;; Has a name of megabytes.
;; -- memory
200
;; -- describe
(call $poke (i32.const 256) (i32.const 65536))
(call $poke (i32.const 260) (i32.const 12000000))
