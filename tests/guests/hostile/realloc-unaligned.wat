;; Gives the host an odd place.
;; -- realloc
(return (i32.const 65537))
