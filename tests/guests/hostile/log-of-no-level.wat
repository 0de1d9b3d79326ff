;; Logs with a level that does not exist.
;; -- process
(call $line (i32.const 200) (i32.const 16) (i32.const 7))
