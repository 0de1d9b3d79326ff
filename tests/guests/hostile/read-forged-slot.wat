;; Reads the list of a key that the call does not have.
;; -- process
(call $list-read (i32.const 1) (i32.const 99) (i64.const 0) (i32.const 10) (i32.const 2048))
