;; Observes megabytes of values at once.
;; -- memory
200
;; -- process
(call $observe (i32.const 16) (i32.const 7) (i32.const 65536) (i32.const 1500000))
