;; Its start function never ends.
;; -- module
(func $start (loop $again (br $again))) (start $start)
