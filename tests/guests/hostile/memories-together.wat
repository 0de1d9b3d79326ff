;; Three memories, each of which would be allowed.
;; -- memory
100
;; -- module
(memory 100) (memory 100)
