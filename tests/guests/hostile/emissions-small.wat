;; Returns a thousand emissions of one record each, with keys of the call.
;; -- memory
200
;; -- process
(local $at i32)
(local.set $at (i32.const 1200000))
(loop $again
  (i32.store offset=24 (local.get $at) (i32.const 5000))
  (i32.store offset=28 (local.get $at) (i32.const 1))
  (i32.store offset=32 (local.get $at) (i32.const 5000))
  (i32.store offset=36 (local.get $at) (i32.const 1))
  (i32.store offset=48 (local.get $at) (i32.const 5000))
  (i32.store offset=52 (local.get $at) (i32.const 1))
  (local.set $at (i32.add (local.get $at) (i32.const 56)))
  (br_if $again (i32.lt_u (local.get $at) (i32.const 1256000))))
(call $poke (i32.const 1028) (i32.const 1200000))
(call $poke (i32.const 1032) (i32.const 1000))
