;; Rejects a record twice.
;; -- process
(call $poke (i32.const 1060) (i32.const 4096))
(call $poke (i32.const 1064) (i32.const 2))
