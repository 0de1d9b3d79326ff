;; Reads a sub-key that is too long.
;; -- process
(call $poke (i32.const 5100) (i32.const 65537))
(call $map-get (i32.const 2) (i32.const 5000) (i32.const 1) (i32.const 5100) (i32.const 1)
  (i32.const 65536) (i32.const 65537) (i32.const 2048))
