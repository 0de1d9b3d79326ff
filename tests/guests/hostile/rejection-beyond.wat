;; Rejects a record that the call does not have.
;; -- process
(call $poke (i32.const 1060) (i32.const 4096))
(call $poke (i32.const 1064) (i32.const 1))
(call $poke (i32.const 4096) (i32.const 99))
