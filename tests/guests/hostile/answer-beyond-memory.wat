;; Its answer is not in its memory.
;; -- process
(return (i32.const -4))
