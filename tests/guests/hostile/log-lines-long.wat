;; Logs lines of a megabyte without end.
;; -- memory
200
;; -- process
(loop $again (call $line (i32.const 2) (i32.const 1200000) (i32.const 1000000)) (br $again))
