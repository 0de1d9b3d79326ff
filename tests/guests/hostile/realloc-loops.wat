;; Never gives the host a place.
;; -- realloc
(loop $again (br $again))
