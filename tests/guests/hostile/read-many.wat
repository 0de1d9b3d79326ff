;; Asks for the lengths of more lists at once than are allowed.
;; -- process
(call $list-len (i32.const 1) (i32.const 65536) (i32.const 65537) (i32.const 2048))
