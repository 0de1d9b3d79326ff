;; Reads a value as if it were a list.
;; -- process
(call $list-read (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 10) (i32.const 2048))
