;; Returns a thousand emissions without records, each of which would become a batch.
;; -- memory
200
;; -- process
(call $poke (i32.const 1028) (i32.const 1200000))
(call $poke (i32.const 1032) (i32.const 1000))
