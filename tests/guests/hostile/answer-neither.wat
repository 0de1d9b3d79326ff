;; Its answer is neither a success nor an error.
;; -- process
(call $poke (i32.const 1024) (i32.const 7))
