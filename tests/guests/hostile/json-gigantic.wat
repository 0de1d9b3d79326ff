;; Converts nothing to megabytes of text.
;; -- memory
200
;; -- to-json
(call $poke (i32.const 1036) (i32.const 1200000))
(call $poke (i32.const 1040) (i32.const 11000000))
