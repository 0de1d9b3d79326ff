;; Emits one record with seventy thousand keys.
;; -- memory
200
;; -- process
(call $poke (i32.const 1028) (i32.const 4096))
(call $poke (i32.const 1032) (i32.const 1))
(call $poke (i32.const 4100) (i32.const 1))
(call $poke (i32.const 4104) (i32.const 1200000))
(call $poke (i32.const 4108) (i32.const 70000))
(call $poke (i32.const 4120) (i32.const 5000))
(call $poke (i32.const 4124) (i32.const 1))
(call $poke (i32.const 4128) (i32.const 5100))
(call $poke (i32.const 4132) (i32.const 1))
(call $poke (i32.const 4144) (i32.const 5200))
(call $poke (i32.const 4148) (i32.const 1))
