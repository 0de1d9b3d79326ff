;; Appends thousands of empty items to a list, which are few bytes.
;; -- memory
200
;; -- process
(call $poke (i32.const 1044) (i32.const 4096))
(call $poke (i32.const 1048) (i32.const 1))
(call $poke (i32.const 4096) (i32.const 1))
(call $poke (i32.const 4108) (i32.const 1200000))
(call $poke (i32.const 4112) (i32.const 5000))
(call $poke (i32.const 4116) (i32.const 1200000))
(call $poke (i32.const 4120) (i32.const 5000))
