;; Rejects a record nine thousand times.
;; -- memory
200
;; -- process
(call $poke (i32.const 1060) (i32.const 1200000))
(call $poke (i32.const 1064) (i32.const 9000))
