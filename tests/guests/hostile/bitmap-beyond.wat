;; A bitmap says that items are there which do not exist. That is ignored.
;; -- process
(call $poke (i32.const 1036) (i32.const 4096))
(call $poke (i32.const 1040) (i32.const 1))
(call $poke (i32.const 4100) (i32.const 5000))
(call $poke (i32.const 4104) (i32.const 1))
(call $poke (i32.const 4108) (i32.const 5100))
(call $poke (i32.const 4112) (i32.const 1))
(call $poke (i32.const 4116) (i32.const 5200))
(call $poke (i32.const 4120) (i32.const 1))
(call $poke (i32.const 5100) (i32.const 255))
;; -- migrate
(call $poke (i32.const 1036) (i32.const 0))
(call $poke (i32.const 1040) (i32.const 0))
