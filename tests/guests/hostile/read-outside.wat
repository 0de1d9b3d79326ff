;; Reads state while it is opened.
;; -- open
(call $list-len (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 2048))
