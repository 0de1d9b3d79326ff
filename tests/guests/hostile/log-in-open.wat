;; Logs without end before its first record.
;; -- open
(loop $again (call $line (i32.const 2) (i32.const 16) (i32.const 7)) (br $again))
