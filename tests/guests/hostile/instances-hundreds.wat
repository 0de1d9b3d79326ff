;; Hundreds of core instances.
;; -- component
(core module $Empty)
;; -- component 500 times
(core instance (instantiate $Empty))
