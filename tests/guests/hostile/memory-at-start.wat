;; Begins with all the memory that can be named.
;; -- memory
65536
