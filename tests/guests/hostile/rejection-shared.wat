;; Rejects records a hundred times with one text, which the host would copy each time.
;; -- memory
200
;; -- process
(local $at i32)
(local.set $at (i32.const 4096))
(loop $again
  (i32.store offset=4 (local.get $at) (i32.const 1200000))
  (i32.store offset=8 (local.get $at) (i32.const 20000))
  (local.set $at (i32.add (local.get $at) (i32.const 12)))
  (br_if $again (i32.lt_u (local.get $at) (i32.const 5296))))
(call $poke (i32.const 1060) (i32.const 4096))
(call $poke (i32.const 1064) (i32.const 100))
