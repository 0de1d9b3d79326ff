;; Rejects a record with a reason of megabytes.
;; -- memory
200
;; -- process
(call $poke (i32.const 1060) (i32.const 4096))
(call $poke (i32.const 1064) (i32.const 1))
(call $poke (i32.const 4100) (i32.const 1200000))
(call $poke (i32.const 4104) (i32.const 11000000))
