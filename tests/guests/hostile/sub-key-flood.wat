;; Removes thousands of sub-keys of a map, which are few bytes.
;; -- memory
200
;; -- process
(call $poke (i32.const 1052) (i32.const 4096))
(call $poke (i32.const 1056) (i32.const 1))
(call $poke (i32.const 4096) (i32.const 2))
(call $poke (i32.const 4108) (i32.const 1200000))
(call $poke (i32.const 4112) (i32.const 5000))
(call $poke (i32.const 4116) (i32.const 1200000))
(call $poke (i32.const 4120) (i32.const 5000))
(call $poke (i32.const 4132) (i32.const 1200000))
(call $poke (i32.const 4136) (i32.const 625))
(call $poke (i32.const 4140) (i32.const 1200000))
(call $poke (i32.const 4144) (i32.const 5000))
