;; Reads state without end.
;; -- process
(loop $again
  (call $list-read (i32.const 1) (i32.const 0) (i64.const 0) (i32.const 10) (i32.const 2048))
  (br $again))
