;; Grows a table until it gets no more.
;; -- module
(table $table 1 funcref)
;; -- process
(loop $more
  (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
unreachable
