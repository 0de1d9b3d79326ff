;; Begins with a table of ten million elements.
;; -- module
(table 10000000 funcref)
