;; Fails with bytes that are not text.
;; -- process
(call $poke (i32.const 1024) (i32.const 1))
(call $poke (i32.const 1028) (i32.const 4096))
(call $poke (i32.const 1032) (i32.const 1))
(call $poke (i32.const 4096) (i32.const 255))
