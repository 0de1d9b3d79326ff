;; Logs a line of megabytes.
;; -- memory
200
;; -- process
(call $line (i32.const 2) (i32.const 65536) (i32.const 12000000))
