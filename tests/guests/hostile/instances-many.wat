;; Thousands of core instances.
;; -- component
(core module $Empty)
;; -- component 3000 times
(core instance (instantiate $Empty))
