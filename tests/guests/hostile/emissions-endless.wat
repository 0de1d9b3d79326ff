;; Returns more emissions than its memory could hold.
;; -- process
(call $poke (i32.const 1028) (i32.const 0))
(call $poke (i32.const 1032) (i32.const 268435455))
