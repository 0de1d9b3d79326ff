;; Declares more states than a plugin may have.
;; -- describe
(call $poke (i32.const 276) (i32.const 1000))
