;; Fails with a text of megabytes.
;; -- memory
200
;; -- process
(call $poke (i32.const 1024) (i32.const 1))
(call $poke (i32.const 1028) (i32.const 65536))
(call $poke (i32.const 1032) (i32.const 12000000))
