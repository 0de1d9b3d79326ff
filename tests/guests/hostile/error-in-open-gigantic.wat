;; Refuses its configuration with a text of megabytes.
;; -- memory
200
;; -- open
(call $poke (i32.const 1024) (i32.const 1))
(call $poke (i32.const 1028) (i32.const 1200000))
(call $poke (i32.const 1032) (i32.const 11000000))
