;; Reads a state that it does not have.
;; -- process
(call $list-read (i32.const 77) (i32.const 0) (i64.const 0) (i32.const 10) (i32.const 2048))
