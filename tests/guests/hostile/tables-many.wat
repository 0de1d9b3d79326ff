;; More tables than a component may have.
;; -- module 30 times
(table 1 funcref)
